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
