"""Ein Image vom Rechner in den Cluster bringen, auf den kubectl zeigt.

Aufruf: python -m examples.kubernetes_cluster.load_image price-api:1.0.0
Ein Cluster hat einen eigenen Vorrat an Images; nur Docker Desktop teilt ihn mit dem Rechner.
Ein unbekannter Cluster bekommt nichts, es sei denn, CLUSTER_LOAD_IMAGE nennt den Befehl dafür.
"""

import os
import shlex
import sys

from examples.kubernetes_cluster.kubectl import ClusterError, as_command, run

VARIABLE = "CLUSTER_LOAD_IMAGE"


def command(context: str, image: str) -> list[str]:
    """Der Befehl, der `image` in den Cluster dieses Kontexts bringt; leer: nichts nötig."""
    kind, _, name = context.partition("-")
    if context == "docker-desktop":
        return []
    if context == "minikube":
        return ["minikube", "image", "load", image]
    if kind == "kind":
        return ["kind", "load", "docker-image", image, "--name", name]
    if kind == "k3d":
        return ["k3d", "image", "import", image, "--cluster", name]
    if own := os.environ.get(VARIABLE):
        return [*shlex.split(own), image]
    raise ClusterError(
        f"Der Kontext {context!r} ist kein bekannter Übungscluster (Docker Desktop, kind, "
        f"minikube, k3d). Es wurde nichts verändert. Stimmt er, so nennt {VARIABLE} den Befehl, "
        "der ein Image hineinbringt; der Name des Images wird angehängt."
    )


def load(image: str) -> str:
    """Bringt `image` in den Cluster und sagt, was geschehen ist."""
    name, _, tag = image.rpartition(":")
    if not name or "/" in tag or tag == "latest":
        raise ClusterError(
            f"{image!r} nennt keine feste Fassung, etwa price-api:1.0.0. Bei `latest` wüsste "
            "niemand, was läuft, und der Cluster suchte das Image im Netz."
        )
    try:
        run(["docker", "image", "inspect", "--format", "{{.Id}}", image])
    except ClusterError:
        raise ClusterError(
            f"{image} gibt es hier nicht. Zuerst: python -m examples.docker_image.build {image}"
        ) from None
    context = run(["kubectl", "config", "current-context"]).strip()
    loading = command(context, image)
    if loading:
        run(loading)
    return f"{image} liegt im Cluster."


if __name__ == "__main__":
    sys.exit(as_command("load_image IMAGE", load))
