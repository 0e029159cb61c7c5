"""Einstellungen für gunicorn (Linux, macOS), jede mit ihrem Grund.

Starten: gunicorn --config examples/flask_service/gunicorn_conf.py --preload
"""

wsgi_app = "examples.flask_service.app:create_app()"
bind = "127.0.0.1:8113"
# Ein Prozess je Kern: in einem Prozess rechnet Python nur auf einem.
workers = 2
# Ein langsamer Client hält so einen Thread auf, nicht einen ganzen Workerprozess.
threads = 4
# Sonst legen alle gunicorn eines Benutzers dieselbe Steuerdatei in seinen Ordner.
control_socket_disable = True

# Was die Anwendung nicht liest, etwa vor einer 413, verwirft gunicorn nur bis zu dieser Grenze.
DISCARDED_BYTES = 64 * 1024


def pre_request(_, request) -> None:
    """Kündigt dem Client an, dass gunicorn die Verbindung nach dieser Antwort schließt."""
    # Sonst verspricht es, sie zu halten, schließt sie doch, und die nächste Frage geht verloren.
    headers = dict(request.headers)
    if "TRANSFER-ENCODING" in headers or int(headers.get("CONTENT-LENGTH", 0)) >= DISCARDED_BYTES:
        request.force_close()
