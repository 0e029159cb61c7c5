"""Der Inferenzserver von Azure, auf Loopback statt auf allen Adressen.

`azmlinfsrv` hat keine Option für die Adresse. Es liest sie aus einem Namen seines Moduls, und
nur diesen ändert diese Datei; alles andere, auch die Argumente, bleibt das Programm von Azure.
Läuft in der Umgebung azureml_server: `python server.py --entry_script score.py --port 8195`
"""

import os

from azureml_inference_server_http import amlserver

amlserver.DEFAULT_HOST = os.environ.get("PRICE_HOST", "127.0.0.1")

if __name__ == "__main__":
    amlserver.run()
