"""Ersatz für metrics-server: metrics.k8s.io/v1beta1 aus den echten Messwerten des Kubelets.

Aufruf: python3 metrics_api.py ZERTIFIKAT SCHLÜSSEL
"""

import json
import ssl
import sys
import urllib.request
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

KUBELET = "http://127.0.0.1:10255"
ADDRESS = ("127.0.0.1", 4443)
GROUP, VERSION = "metrics.k8s.io", "metrics.k8s.io/v1beta1"
RESOURCES = [("nodes", "NodeMetrics", False), ("pods", "PodMetrics", True)]


def kubelet(path: str) -> dict:
    """Fragt den Kubelet."""
    with urllib.request.urlopen(KUBELET + path, timeout=5) as response:
        return json.load(response)


def usage(stats: dict) -> dict:
    """Rechnet die Werte des Kubelets in Mengen von Kubernetes um."""
    cpu = stats.get("cpu", {}).get("usageNanoCores", 0)
    memory = stats.get("memory", {}).get("workingSetBytes", 0)
    return {"cpu": f"{cpu}n", "memory": f"{memory // 1024}Ki"}


def measured(kind: str, stats: dict, **meta: object) -> dict:
    """Eine Messung; der Zeitpunkt ist der des Kubelets, sonst hielte man alte Werte für neue."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    taken = stats.get("cpu", {}).get("time", now)
    return {
        "kind": kind,
        "apiVersion": VERSION,
        "metadata": meta,
        "timestamp": taken,
        "window": "10s",
    }


def nodes() -> list[dict]:
    """Der eine Knoten."""
    node = kubelet("/stats/summary")["node"]
    return [measured("NodeMetrics", node, name=node["nodeName"]) | {"usage": usage(node)}]


def pods(namespace: str | None, selector: str) -> list[dict]:
    """Alle Pods mit Messwerten; `selector` ist eine Liste „name=wert“ mit Kommas."""
    wanted = [part.replace("==", "=").split("=", 1) for part in selector.split(",") if part]
    labels = {
        (pod["metadata"]["namespace"], pod["metadata"]["name"]): pod["metadata"].get("labels", {})
        for pod in kubelet("/pods").get("items") or []
    }
    found = []
    for pod in kubelet("/stats/summary").get("pods", []):
        key = (pod["podRef"]["namespace"], pod["podRef"]["name"])
        if key not in labels or namespace not in (None, key[0]):
            continue
        if any(labels[key].get(name) != value for name, value in wanted):
            continue
        containers = [
            {"name": container["name"], "usage": usage(container)}
            for container in pod.get("containers", [])
            if "usageNanoCores" in container.get("cpu", {})
        ]
        if containers:
            meta = {"namespace": key[0], "name": key[1], "labels": labels[key]}
            found.append(measured("PodMetrics", pod, **meta) | {"containers": containers})
    return found


def answer(path: str, selector: str) -> dict | None:
    """Gibt die Antwort auf eine Adresse zurück, `None` für eine unbekannte."""
    verbs = {"singularName": "", "verbs": ["get", "list"]}
    described = [
        {"name": name, "kind": kind, "namespaced": own} | verbs for name, kind, own in RESOURCES
    ]
    preferred = {"groupVersion": VERSION, "version": "v1beta1"}
    match path.strip("/").split("/"):
        case ["apis"]:
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": []}
        case ["apis", group] if group == GROUP:
            group = {"name": GROUP, "versions": [preferred], "preferredVersion": preferred}
            return {"kind": "APIGroup", "apiVersion": "v1"} | group
        case ["apis", group, "v1beta1"] if group == GROUP:
            listing = {"groupVersion": VERSION, "resources": described}
            return {"kind": "APIResourceList", "apiVersion": "v1"} | listing
        case ["apis", _, "v1beta1", "nodes"]:
            return listed("NodeMetricsList", nodes())
        case ["apis", _, "v1beta1", "nodes", name]:
            return next((node for node in nodes() if node["metadata"]["name"] == name), None)
        case ["apis", _, "v1beta1", "pods"]:
            return listed("PodMetricsList", pods(None, selector))
        case ["apis", _, "v1beta1", "namespaces", namespace, "pods"]:
            return listed("PodMetricsList", pods(namespace, selector))
        case ["apis", _, "v1beta1", "namespaces", namespace, "pods", name]:
            found = pods(namespace, "")
            return next((pod for pod in found if pod["metadata"]["name"] == name), None)
    return None


def listed(kind: str, items: list[dict]) -> dict:
    """Eine Liste, wie Kubernetes sie erwartet."""
    return {"kind": kind, "apiVersion": VERSION, "metadata": {}, "items": items}


class Handler(BaseHTTPRequestHandler):
    """Antwortet dem API-Server."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Schweigt: Der API-Server fragt ständig."""

    def do_GET(self) -> None:
        """Beantwortet eine Frage; Unbekanntes ist NotFound."""
        url = urlsplit(self.path)
        found = answer(url.path, parse_qs(url.query).get("labelSelector", [""])[0])
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound"}
        body = json.dumps(found or status | {"code": 404}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Hört auf Loopback, mit dem Zertifikat des API-Servers."""
    server = ThreadingHTTPServer(ADDRESS, Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[1:3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
