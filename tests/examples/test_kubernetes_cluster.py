"""Manifeste gelten hier und auf der neuesten Version; im Cluster geht nichts verloren."""

import contextlib
import errno
import json
import os
import subprocess
import sys
import uuid
from functools import cache
from pathlib import Path

import pytest
import yaml

import contract
import needs
from examples.kubernetes_cluster import (
    crash,
    driver,
    kubectl,
    load_image,
    secret,
    state,
    under_load,
    validate,
)
from examples.kubernetes_cluster.kubectl import ClusterError

FOLDER = Path(validate.__file__).parent
IMAGE = "price-api:1.0.0"
KUSTOMIZED = sorted(path.parent for path in FOLDER.rglob("kustomization.yaml"))
# Diese sind mit Absicht falsch; was an ihnen auffällt, steht in den Tests unten.
WRONG = {FOLDER / "faults" / "unknown_field.yaml", FOLDER / "faults" / "wrong_quantity.yaml"}
OUTDATED = sorted((FOLDER / "outdated").glob("*.yaml"))
SINGLE = [FOLDER / "load_pod.yaml", FOLDER / "pod_disruption_budget.yaml"]
DEPLOYMENT = "deployment/price-api"


def name(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


@cache
def rendered(path: Path) -> list[dict]:
    """Was nach dem Zusammensetzen an den Cluster ginge."""
    needs.program("kubectl", "kubectl installieren, siehe kubernetes.io")
    return validate.documents(path)


def containers() -> list[tuple[str, dict]]:
    """Jeder Container jedes Manifests, mit dem Pod darum."""
    found = []
    for path in [*KUSTOMIZED, SINGLE[0]]:
        for document in rendered(path):
            spec = document.get("spec", {})
            pod = spec.get("template", {}).get("spec", spec)
            found += [(name(path), pod, item) for item in pod.get("containers", [])]
    return found


# --- ohne Cluster


def test_program_is_installed():
    # Das Programm, dessen Schemata validate.py benutzt; sein Name steht in den Vermerken.
    needs.program("kubernetes-validate", "make test richtet es ein")


@pytest.mark.parametrize("path", [*KUSTOMIZED, *SINGLE], ids=name)
def test_manifest_is_valid_in_the_current_version(path):
    problems = [(document["kind"], validate.problem(document)) for document in rendered(path)]
    assert not [found for found in problems if found[1]]


@pytest.mark.parametrize("path", OUTDATED, ids=name)
def test_outdated_manifest_is_unknown_today(path):
    (document,) = validate.documents(path)
    assert "kennt die aktuelle Version nicht" in validate.problem(document)


def test_schema_finds_fields_but_no_quantities():
    field, quantity = (validate.documents(path)[0] for path in sorted(WRONG))
    assert "'replica' was unexpected" in validate.problem(field)
    assert validate.problem(quantity) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "kein Objekt"),
        ("a: [", "kein gültiges YAML"),
        ("nur Text", "kein Objekt"),
        (None, "gibt es nicht"),
    ],
    ids=["empty", "broken", "text", "missing"],
)
def test_unreadable_manifest_is_one_german_line(tmp_path, text, words):
    path = tmp_path / "manifest.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    done = called("validate", str(path))
    assert done.returncode == 1
    assert words in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n", b"a: 2026-13-01", b"[" * 1000], ids=["image", "date", "deep"]
)
def test_what_is_no_manifest_is_named(tmp_path, content):
    path = tmp_path / "manifest.yaml"
    path.write_bytes(content)
    with pytest.raises(ClusterError, match="kein gültiges YAML"):
        validate.documents(path)


def test_object_without_kind_is_no_crash():
    assert validate.problem({"spec": {}}) == "apiVersion oder kind fehlt"


def called(module: str, *arguments: str, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", f"examples.kubernetes_cluster.{module}", *arguments],
        cwd=FOLDER.parent.parent,
        env=os.environ | env,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


def test_every_image_has_a_fixed_tag_and_is_not_pulled():
    for where, _, container in containers():
        assert container["image"] == IMAGE, where
        assert container["imagePullPolicy"] == "IfNotPresent", where


def test_every_container_is_limited_and_without_rights():
    for where, pod, container in containers():
        resources = container["resources"]
        assert set(resources["requests"]) == set(resources["limits"]) == {"cpu", "memory"}, where
        assert pod["securityContext"]["runAsNonRoot"], where
        assert container["securityContext"]["readOnlyRootFilesystem"], where
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, where


def test_probes_mean_different_things():
    (pod,) = [
        d["spec"]["template"]["spec"] for d in rendered(FOLDER / "base") if d["kind"][0] == "D"
    ]
    (container,) = pod["containers"]
    paths = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness")}
    assert set(paths.values()) == {"/health/live"}, "Ein Neustart repariert kein Modell"
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    sleep = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert 0 < sleep < pod["terminationGracePeriodSeconds"] / 2


def test_no_secret_is_written_down():
    for path in FOLDER.rglob("*"):
        if path.suffix in (".yaml", ".py"):
            assert "kind: Secret" not in path.read_text(encoding="utf-8"), path.name


def test_secret_is_random_and_leaves_only_through_stdin(monkeypatch):
    seen = []
    monkeypatch.setattr(secret, "run", lambda command, stdin: seen.append((command, stdin)))
    secret.create("price")
    secret.create("price")
    values = [json.loads(stdin)["data"]["api-key"] for _, stdin in seen]
    assert values[0] != values[1]
    for (command, _), value in zip(seen, values, strict=True):
        assert value not in " ".join(command)


# --- das Image in den Cluster bringen

CONTEXTS = {  # Kontext: was aufgerufen wird
    "docker-desktop": None,
    "minikube": ["minikube", "image", "load", IMAGE],
    "kind-kind": ["kind", "load", "docker-image", IMAGE, "--name", "kind"],
    "kind-my-cluster": ["kind", "load", "docker-image", IMAGE, "--name", "my-cluster"],
    "k3d-book": ["k3d", "image", "import", IMAGE, "--cluster", "book"],
}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Ein Rechner mit erfundenen Programmen, die aufschreiben, wie sie gerufen wurden."""
    for program in ("docker", "kubectl", "kind", "minikube", "k3d", "loader"):
        path = tmp_path / program
        path.write_text(
            f"#!{sys.executable}\n"
            "import json, os, sys\n"
            f"calls = open({str(tmp_path / 'calls')!r}, 'a')\n"
            f"calls.write(json.dumps([{program!r}, *sys.argv[1:]]) + '\\n')\n"
            f"print(os.environ['CONTEXT']) if {program!r} == 'kubectl' else None\n"
            f"sys.exit({program!r} in os.environ.get('FAILING', ''))\n",
            encoding="utf-8",
        )
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(load_image.VARIABLE, raising=False)
    monkeypatch.setenv("CONTEXT", "kind-kind")

    def calls() -> list[list[str]]:
        lines = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
        return [call for call in map(json.loads, lines) if call[0] not in ("docker", "kubectl")]

    return calls


@pytest.mark.skipif(sys.platform == "win32", reason="die erfundenen Programme sind Skripte")
@pytest.mark.parametrize("context", CONTEXTS)
def test_image_reaches_the_cluster(machine, monkeypatch, context):
    monkeypatch.setenv("CONTEXT", context)
    monkeypatch.setenv(load_image.VARIABLE, "loader")  # bekannte Cluster gehen vor
    assert load_image.load(IMAGE) == f"{IMAGE} liegt im Cluster."
    assert machine() == ([CONTEXTS[context]] if CONTEXTS[context] else [])


@pytest.mark.skipif(sys.platform == "win32", reason="die erfundenen Programme sind Skripte")
def test_unknown_cluster_needs_a_command(machine, monkeypatch):
    monkeypatch.setenv("CONTEXT", "company-production")
    with pytest.raises(ClusterError, match="company-production.*CLUSTER_LOAD_IMAGE"):
        load_image.load(IMAGE)
    assert machine() == []
    monkeypatch.setenv(load_image.VARIABLE, "loader --into 'my cluster'")
    load_image.load(IMAGE)
    assert machine() == [["loader", "--into", "my cluster", IMAGE]]


@pytest.mark.skipif(sys.platform == "win32", reason="die erfundenen Programme sind Skripte")
@pytest.mark.parametrize("image", ["price-api", "price-api:latest", "host:5000/price-api", ""])
def test_image_without_fixed_tag_is_refused(machine, image):
    with pytest.raises(ClusterError, match="keine feste Fassung"):
        load_image.load(image)


@pytest.mark.skipif(sys.platform == "win32", reason="die erfundenen Programme sind Skripte")
@pytest.mark.parametrize(
    ("failing", "words"), [("docker", "docker_image.build"), ("kind", "kind load docker-image")]
)
def test_failure_says_what_to_do(machine, monkeypatch, failing, words):
    monkeypatch.setenv("FAILING", failing)
    with pytest.raises(ClusterError, match=words):
        load_image.load(IMAGE)


def test_missing_program_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="kubectl fehlt"):
        kubectl.run(["kubectl", "get", "pods"])


@pytest.mark.parametrize("module", ["load_image", "secret", "crash", "validate", "state"])
def test_wrong_call_is_explained(module):
    done = called(module)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and done.stderr.strip()


# --- Zustände lesen, ohne Cluster


def pod(ready: bool = True, restarts: int = 0, **container: object) -> dict:
    status = {"ready": ready, "restartCount": restarts, **container}
    conditions = [{"type": "Ready", "status": str(ready), "reason": "ContainersNotReady"}]
    return {
        "metadata": {"name": "price"},
        "status": {"conditions": conditions, "containerStatuses": [status]},
    }


KILLED = pod(ready=False, restarts=1, lastState={"terminated": {"reason": "OOMKilled"}})
PENDING = {
    "metadata": {"name": "price"},
    "status": {
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
    },
}


@pytest.mark.parametrize(
    ("pods", "reason", "serving"),
    [([pod(), pod(), KILLED], "OOMKilled", 2), ([pod(), PENDING], "Unschedulable", 1)],
)
def test_reason_is_found_wherever_it_is_told(monkeypatch, pods, reason, serving):
    monkeypatch.setattr(state, "items", lambda _, kind: pods if kind == "pods" else [])
    assert state.wait_for("price", [reason], 0, 1) == {"seen": reason, "still_ready": serving}


def test_waiting_ends_and_tells_what_was_seen(monkeypatch):
    monkeypatch.setattr(state, "items", lambda _, kind: [KILLED] if kind == "pods" else [])
    with pytest.raises(ClusterError, match="noch nicht: Unschedulable.*OOMKilled"):
        state.wait_for("price", ["Unschedulable"], 0, 0)


def test_storm_means_every_pod_restarted(monkeypatch):
    pods = [pod(restarts=1), pod(restarts=0)]
    monkeypatch.setattr(state, "items", lambda _, kind: pods if kind == "pods" else [])
    monkeypatch.setattr(state, "replaced", lambda _: True)
    with pytest.raises(ClusterError, match="1 Neustarts je Pod"):
        state.wait_for("price", [], 1, 0)
    pods[1] = pod(restarts=2)
    assert state.wait_for("price", [], 1, 0)["seen"] == "neu gestartet"
    # Neustarts der alten Pods zählen nicht.
    monkeypatch.setattr(state, "replaced", lambda _: False)
    with pytest.raises(ClusterError, match="1 Neustarts je Pod"):
        state.wait_for("price", [], 1, 0)


def test_patient_client_asks_again_but_not_forever(monkeypatch):
    answers = iter([("ConnectionRefusedError", ""), ("503", ""), ("200", "a"), ("200", "b")])
    monkeypatch.setattr(driver.load.Client, "ask", lambda self: next(answers))
    monkeypatch.setattr(driver.time, "sleep", lambda seconds: None)
    client = driver.Patient("http://127.0.0.1:1", 1, False)
    assert client.ask() == ("200", "a")
    monkeypatch.setattr(driver.load.Client, "ask", lambda self: ("503", ""))
    assert client.ask() == ("503", "")


def test_load_has_a_whole_round_after_the_intervention(monkeypatch, capsys):
    rounds = []
    answer = (0.0, 0.1, "200", "a")
    monkeypatch.setattr(driver.load, "run", lambda *_, **__: rounds.append(1) or [answer])
    # Der Auftraggeber schließt die Eingabe während der zweiten Runde.
    ended = {2: ["stdin"]}
    monkeypatch.setattr(driver.select, "select", lambda *_: (ended.get(len(rounds)), [], []))
    monkeypatch.setattr(sys, "argv", ["driver", "http://127.0.0.1:1", "100", "90"])
    driver.main()
    _, counted = capsys.readouterr().out.splitlines()
    assert json.loads(counted)["sent"] == len(rounds) == 3


@pytest.fixture
def loaded(monkeypatch):
    """Gibt Last ohne Cluster: Der Lastgenerator ist das Programm, das ein Test nennt."""
    monkeypatch.setattr(under_load, "LEAD_SECONDS", 1)
    monkeypatch.setattr(under_load, "run", lambda *_: "")
    monkeypatch.setattr(under_load, "load_pod", lambda _: contextlib.nullcontext("pod"))
    real = subprocess.Popen

    def count(program: str, **options: object) -> dict:
        def start(_: list[str], **streams: object) -> subprocess.Popen:
            return real([sys.executable, "-c", program], **streams)

        monkeypatch.setattr(under_load.subprocess, "Popen", start)
        return under_load.run_under_load("price", ["kubectl"], **options)

    return count


BEGINS = "print('Die erste Runde ist beantwortet.', flush=True);"


def test_load_that_ends_before_the_intervention_proves_nothing(loaded):
    ends = f"{BEGINS} import sys; sys.stdin.read(); print('{{\"sent\": 3}}')"
    assert loaded(ends) == {"sent": 3}
    with pytest.raises(ClusterError, match="Was danach geschah, ist nicht gezählt"):
        loaded(ends.replace("sys.stdin.read()", "__import__('time').sleep(0.3)"))
    with pytest.raises(ClusterError, match="gescheitert: kaputt"):
        loaded("import sys; sys.exit('kaputt')")


def test_pod_that_is_going_but_still_answers_is_not_the_end(monkeypatch):
    going = pod()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    monkeypatch.setattr(under_load, "items", lambda *_: [pod(), going])
    monkeypatch.setattr(under_load, "replaced", lambda _: True)
    assert not under_load.settled("price")
    going["status"]["containerStatuses"][0]["ready"] = False
    assert under_load.settled("price")


def test_load_pod_is_deleted_even_if_it_never_gets_ready(monkeypatch):
    called = []

    def run(command: list[str]) -> str:
        called.append(command[3:])
        if "wait" in command:
            raise ClusterError("timed out")
        return "load-x"

    monkeypatch.setattr(under_load, "run", run)
    with pytest.raises(ClusterError, match="timed out"), under_load.load_pod("price"):
        pytest.fail("nicht bereit")
    assert called[-1][:3] == ["delete", "pod", "load-x"]


# --- mit Cluster


@pytest.fixture(scope="module")
def namespace(needs_docker, needs_kubernetes):
    """Ein eigener Namensraum mit dem Dienst; am Ende ist er fort."""
    with contract.cluster_namespace("test", "faults/shared_processes") as namespace:
        yield namespace


def kubectl_in(namespace: str, *arguments: object) -> str:
    return kubectl.run(["kubectl", "-n", namespace, *map(str, arguments)])


def test_cluster_accepts_every_manifest(namespace):
    # Alle in einem Aufruf: Jeder lädt erst die Beschreibung der ganzen API.
    overlays = [kubectl.run(["kubectl", "kustomize", str(path)]) for path in KUSTOMIZED]
    apply = ["kubectl", "-n", namespace, "apply", "--dry-run=server", "-f", "-"]
    kubectl.run(apply, "---\n".join(overlays))
    kubectl_in(namespace, "create", "--dry-run=server", "-f", FOLDER / "load_pod.yaml")


@pytest.mark.parametrize(
    ("file", "words"),
    [("unknown_field", "unknown field"), ("wrong_quantity", "quantities must match")],
)
def test_cluster_refuses_what_is_wrong(namespace, file, words):
    with pytest.raises(ClusterError, match=words):
        kubectl_in(namespace, "apply", "--dry-run=server", "-f", FOLDER / "faults" / f"{file}.yaml")


def test_secret_reaches_the_pod_and_nothing_else(namespace):
    value = kubectl_in(namespace, "exec", DEPLOYMENT, "--", "cat", "/run/secrets/price/api-key")
    assert len(value) == 43
    assert value not in kubectl_in(namespace, "exec", DEPLOYMENT, "--", "printenv")
    told = json.loads(kubectl_in(namespace, "get", "secret", secret.NAME, "-o", "json"))
    assert "annotations" not in told["metadata"]


def test_file_system_is_read_only_except_for_scratch(namespace):
    shell = ["exec", DEPLOYMENT, "--", "sh", "-c"]
    with pytest.raises(ClusterError, match="Read-only file system"):
        kubectl_in(namespace, *shell, "echo x > /srv/x")
    kubectl_in(namespace, *shell, "echo x > /tmp/x; rm /tmp/x")


def test_service_without_a_ready_pod_refuses(namespace):
    """Ginge die Frage hinaus, so antwortete für den Service, wer zufällig dort hört."""
    kubectl_in(namespace, "create", "service", "clusterip", "empty", "--tcp=80:8000")
    told = json.loads(kubectl_in(namespace, "get", "service", "empty", "-o", "json"))
    address = told["spec"]["clusterIP"]
    ask = f"import socket; print(socket.socket().connect_ex(('{address}', 80)))"
    asked = kubectl_in(namespace, "exec", DEPLOYMENT, "--", "python", "-c", ask)
    assert asked.strip() == str(errno.ECONNREFUSED)


def test_network_of_our_cluster_outlives_every_pod(namespace):
    """Verlöre die Brücke mit einem Pod ihre Adresse, so hingen die Verbindungen der anderen."""
    bridge = Path("/sys/class/net/cni-buch/addr_assign_type")
    command = ["kubectl", "config", "view", "--minify", "-o", "jsonpath={.contexts[*].name}"]
    if subprocess.run(command, capture_output=True, encoding="utf-8").stdout.strip() != "buch":
        pytest.skip("Diese Brücke hat nur der Cluster aus .ci/cluster.")
    assert bridge.read_text().strip() == "3", "Die Adresse ist nicht fest vergeben"


def test_kill_nine_loses_nothing_when_the_client_asks_again(namespace):
    action = [sys.executable, "-m", "examples.kubernetes_cluster.crash", namespace]
    counted = under_load.run_under_load(namespace, action, settle=True, retry=True)
    pods = kubectl.items(namespace, "pods")
    assert sum(map(state.restarts, pods)) == 1
    assert counted["sent"] == counted["answered"] > 200, counted


def test_broken_model_never_gets_ready_and_the_old_pods_keep_serving(namespace):
    action = ["kubectl", "-n", namespace, "apply", "-k", str(FOLDER / "faults" / "broken_model")]
    reason = "Das Modell lässt sich nicht laden"
    counted = under_load.run_under_load(namespace, action, seconds=3, until=reason)
    assert counted["sent"] == counted["answered"] > 200, counted
    pods = [p for p in kubectl.items(namespace, "pods") if "deletionTimestamp" not in p["metadata"]]
    assert sorted(map(kubectl.ready, pods)) == [False, True, True]
    # Liveness fragt nicht nach dem Modell: ein Neustart würde daran nichts ändern.
    (broken,) = [p for p in pods if not kubectl.ready(p)]
    assert state.restarts(broken) == 0
    kubectl_in(namespace, "rollout", "undo", DEPLOYMENT)
    under_load.wait_until_settled(namespace)


def test_crash_is_refused_where_it_would_do_nothing(namespace, monkeypatch):
    monkeypatch.setattr(crash, "run", lambda command: "")
    with pytest.raises(ClusterError, match="Prozess 1"):
        crash.crash(namespace)


def test_kubectl_error_is_one_german_sentence(namespace):
    done = called("under_load", f"{namespace}-{uuid.uuid4().hex[:6]}", "--seconds", "1")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "kubectl" in done.stderr


def test_labels_of_service_and_pods_fit_together():
    documents = {document["kind"]: document for document in rendered(FOLDER / "base")}
    selector = documents["Service"]["spec"]["selector"]
    labels = documents["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert selector.items() <= labels.items()
    fault = {document["kind"]: document for document in rendered(FOLDER / "faults/wrong_selector")}
    assert not fault["Service"]["spec"]["selector"].items() <= labels.items()


def test_examples_are_written_in_yaml_that_stays_readable():
    for path in FOLDER.rglob("*.yaml"):
        assert list(yaml.safe_load_all(path.read_text(encoding="utf-8"))), path.name
