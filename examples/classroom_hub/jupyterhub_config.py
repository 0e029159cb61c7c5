"""Der Hub einer Klasse: je Person ein Container mit eigenem Netz, eigenem Platz und Grenzen.

Gestartet mit `make classroom-hub`; vorher sind CLASSROOM_USERS und CLASSROOM_KEY zu setzen.
"""

import os
import sys
from pathlib import Path

import docker

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from examples.classroom_hub import build, passwords

c = get_config()  # noqa: F821 – stellt JupyterHub bereit

NAME = os.environ.get("CLASSROOM_NAME", "classroom")  # Anfang aller Namen bei Docker
STATE = Path(os.environ.get("CLASSROOM_STATE", Path.home() / ".local/state" / NAME))
PEOPLE = passwords.class_list()


def image() -> str:
    """Gibt den Namen des Images zurück; es wird gebaut, nie geladen."""
    if not docker.from_env().images.list(name=build.TAG):
        sys.exit(f"Das Image {build.TAG} fehlt. Abhilfe: make classroom-image")
    return build.TAG


def gateway() -> str:
    """Gibt die Adresse des Rechners im Netz der Klasse zurück; legt das Netz an, wenn es fehlt."""
    networks = docker.from_env().networks
    found = networks.list(names=[f"^{NAME}$"]) or [
        networks.create(
            NAME,
            # Kein Weg nach draußen und keiner von Container zu Container.
            internal=True,
            options={"com.docker.network.bridge.enable_icc": "false"},
        )
    ]
    found[0].reload()
    return found[0].attrs["IPAM"]["Config"][0]["Gateway"]


# [people]
# Das Kennwort ergibt sich aus Name und Schlüssel. Der Schlüssel steht in keiner Datei des Projekts.
c.JupyterHub.authenticator_class = "hashauthenticator.HashAuthenticator"
c.HashAuthenticator.secret_key = passwords.key()
c.HashAuthenticator.password_length = passwords.LENGTH
c.Authenticator.allowed_users = set(PEOPLE)
c.Authenticator.admin_users = {PEOPLE[0]}
# Anmelden kann sich nur, wer auf dieser Liste steht, nicht, wer auf einer früheren stand.
c.Authenticator.allow_existing_users = False
# [/people]

# [limits]
c.JupyterHub.spawner_class = "dockerspawner.DockerSpawner"
c.DockerSpawner.image = image()
c.DockerSpawner.pull_policy = "never"
c.DockerSpawner.mem_limit = "768M"  # darüber beendet Linux den größten Prozess, den Kernel
c.DockerSpawner.cpu_limit = 1.0
c.DockerSpawner.environment = {
    # Die Grenze ist Rechenzeit; sonst startet jede Bibliothek Threads für alle Kerne.
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "IPYTHONDIR": "/home/student/.ipython",
}
c.DockerSpawner.extra_host_config = {
    "memswap_limit": "768M",  # gleich viel heißt: nichts auslagern
    "pids_limit": 256,
    "read_only": True,
    "tmpfs": {"/tmp": "size=128m"},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}
# Mehr auf einmal starten zu wollen, macht jeden Start langsamer; die anderen warten.
c.JupyterHub.concurrent_spawn_limit = 4
c.JupyterHub.active_server_limit = 32
c.Spawner.start_timeout = 180
c.Spawner.http_timeout = 120
# [/limits]

# [places]
# Kein Port auf dem Rechner: Der Proxy erreicht jeden Container unter dessen eigener Adresse.
c.DockerSpawner.use_internal_ip = True
c.DockerSpawner.network_name = NAME
c.DockerSpawner.prefix = NAME
c.DockerSpawner.name_template = "{prefix}-{username}"
c.DockerSpawner.remove = True  # der Container ist nach dem Ende weg, das Volume bleibt
c.DockerSpawner.volumes = {f"{NAME}-{{username}}": "/home/student"}
c.Spawner.notebook_dir = "/home/student/notebooks"
c.Spawner.default_url = "/lab"
# [/places]

# [idle]
# Wer eine Stunde nichts tut, gibt den Speicher frei; die Dateien bleiben.
c.JupyterHub.services = [
    {
        "name": "idle-culler",
        "command": [sys.executable, "-m", "jupyterhub_idle_culler", "--timeout=3600"],
    }
]
c.JupyterHub.load_roles = [
    {
        "name": "idle-culler",
        "services": ["idle-culler"],
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
    }
]
# [/idle]

# [addresses]
# Von außen kommt nur, was davor TLS abschließt. Den Hub selbst sehen nur die Container.
c.JupyterHub.bind_url = "http://127.0.0.1:8260"
c.JupyterHub.hub_bind_url = f"http://{gateway()}:8261"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:8262"
c.ConfigurableHTTPProxy.command = [
    str(Path(sys.prefix) / "node_modules/.bin/configurable-http-proxy")
]
# [/addresses]

# Neustart des Hubs: Container laufen weiter, Anmeldungen gelten weiter.
c.JupyterHub.cleanup_servers = False
STATE.mkdir(parents=True, exist_ok=True, mode=0o700)
c.JupyterHub.db_url = f"sqlite:///{STATE}/hub.sqlite"
c.JupyterHub.cookie_secret_file = str(STATE / "cookie_secret")
c.ConfigurableHTTPProxy.pid_file = str(STATE / "proxy.pid")
