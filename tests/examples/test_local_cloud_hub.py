"""Die Nachbildung des Hugging Face Hubs, gefragt durch huggingface_hub und git."""

import base64
import json
import os
import subprocess
import time
from pathlib import Path

import httpx
import huggingface_hub
import pytest
from huggingface_hub import HfApi, SpaceCard
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from contract import local_hub
from examples.local_cloud import cards

CARD = "---\ntitle: x\nsdk: {sdk}\n---\n"
STATIC = {"README.md": CARD.format(sdk="static"), "index.html": "<title>Eins</title>"}


@pytest.fixture(scope="module")
def hub():
    with local_hub() as (endpoint, tokens):
        yield endpoint, {role: HfApi(endpoint, token=token) for role, token in tokens.items()}


@pytest.fixture
def api(hub):
    return hub[1]["deploy"]


@pytest.fixture
def name(api, request):
    """Ein Repository nur für diesen Test; danach ist es weg."""
    name = f"kurs/{request.node.originalname.removeprefix('test_').replace('_', '-')[:60]}"
    yield name
    for kind in ("space", "model"):
        if api.repo_exists(name, repo_type=kind):
            api.delete_repo(name, repo_type=kind)


def upload(api: HfApi, name: str, files: dict[str, str | bytes], kind: str = "space") -> None:
    operations = [
        huggingface_hub.CommitOperationAdd(path, text.encode() if isinstance(text, str) else text)
        for path, text in files.items()
    ]
    api.create_commit(name, operations, commit_message="Test", repo_type=kind)


def gradio_space(api: HfApi, name: str, code: str, **more: object) -> str:
    """Ein Space mit dieser Anwendung; gibt den Zustand zurück, in dem er endet."""
    api.create_repo(name, repo_type="space", space_sdk="gradio", **more)
    upload(api, name, {"README.md": CARD.format(sdk="gradio"), "app.py": code})
    return api.wait_for_space(name, timeout=120, poll_interval=0.1).stage


# Eine Anwendung, die nur zeigt, was in ihrer Umgebung steht.
SERVER = """
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(dict(os.environ)).encode())
address = os.environ["GRADIO_SERVER_NAME"], int(os.environ["GRADIO_SERVER_PORT"])
print("bereit", flush=True)
http.server.HTTPServer(address, Handler).serve_forever()
"""


def test_whoami_names_account_and_rights(api):
    me = api.whoami()
    assert (me["name"], me["isPro"]) == ("kurs", True)
    assert me["auth"]["accessToken"]["fineGrained"]["scoped"][0]["permissions"]


@pytest.mark.parametrize("token", ["hf_falsch", False])
def test_wrong_or_no_key_is_refused(hub, token):
    endpoint, _ = hub
    with pytest.raises(HfHubHTTPError) as refused:
        HfApi(endpoint, token=token).create_repo("kurs/fremd")
    assert refused.value.response.status_code == 401


def test_unknown_call_is_refused_by_name(api):
    with pytest.raises(HfHubHTTPError) as refused:
        next(iter(api.list_collections(owner="kurs")))
    assert refused.value.response.status_code == 501
    assert "Nicht nachgebildet: GET /api/collections" in str(refused.value)


def test_missing_things_are_named(api, name):
    with pytest.raises(RepositoryNotFoundError):
        api.model_info(name)
    api.create_repo(name)
    with pytest.raises(RevisionNotFoundError):
        api.model_info(name, revision="v9")
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download(name, "fehlt.txt", local_dir="/nirgends")


def test_repository_cannot_be_created_twice(api, name):
    api.create_repo(name)
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_repo(name)
    assert refused.value.response.status_code == 409
    api.create_repo(name, exist_ok=True)


def test_free_account_gets_static_spaces_only(hub):
    _, apis = hub
    with pytest.raises(HfHubHTTPError, match="requires a PRO subscription") as refused:
        apis["free"].create_repo("gratis/x", repo_type="space", space_sdk="gradio")
    assert refused.value.response.status_code == 402
    apis["free"].create_repo("gratis/x", repo_type="space", space_sdk="static")
    apis["free"].delete_repo("gratis/x", repo_type="space")


@pytest.mark.parametrize("sdk", ["docker", "streamlit"])
def test_other_kinds_of_spaces_are_refused(api, name, sdk):
    with pytest.raises(HfHubHTTPError):
        api.create_repo(name, repo_type="space", space_sdk=sdk)
    assert not api.repo_exists(name, repo_type="space")


def test_private_model_is_invisible_without_its_key(hub, api):
    endpoint, apis = hub
    api.create_repo("kurs/price-model", private=True)
    try:
        assert apis["space"].model_info("kurs/price-model").private
        for other in (apis["free"], HfApi(endpoint, token=False)):
            with pytest.raises(RepositoryNotFoundError):
                other.model_info("kurs/price-model")
            assert not [*other.list_models(author="kurs")]
        with pytest.raises(HfHubHTTPError) as refused:
            upload(apis["space"], "kurs/price-model", {"a.txt": "a"}, "model")
        assert refused.value.response.status_code == 403
    finally:
        api.delete_repo("kurs/price-model")


def test_large_files_are_stored_beside_git(api, name, tmp_path):
    api.create_repo(name)
    upload(api, name, {"model.onnx": b"\0" * 5000, "notes/a.txt": "ä"}, "model")
    entries = {entry.path: entry for entry in api.list_repo_tree(name, recursive=True)}
    assert entries["model.onnx"].lfs.size == 5000 and entries["notes/a.txt"].lfs is None
    folder = Path(api.snapshot_download(name, local_dir=tmp_path / "copy"))
    assert (folder / "model.onnx").read_bytes() == b"\0" * 5000
    assert (folder / "notes" / "a.txt").read_text("utf-8") == "ä"


def test_unchanged_files_make_no_commit(api, name):
    api.create_repo(name)
    files = {"model.onnx": b"\0" * 5000, "a.txt": "a"}
    upload(api, name, files, "model")
    upload(api, name, files, "model")
    titles = [commit.title for commit in api.list_repo_commits(name)]
    assert titles == ["Test", "initial commit"]


def test_large_file_that_never_came_is_refused(hub, api, name):
    endpoint, _ = hub
    api.create_repo(name)
    value = {"path": "a.bin", "algo": "sha256", "oid": "0" * 64, "size": 5}
    lines = [{"key": "header", "value": {"summary": "x"}}, {"key": "lfsFile", "value": value}]
    answer = httpx.post(
        f"{endpoint}/api/models/{name}/commit/main",
        content="\n".join(map(json.dumps, lines)),
        headers={"Authorization": f"Bearer {api.token}"},
    )
    assert answer.status_code == 400 and "Nie hochgeladen" in answer.json()["error"]


def test_damaged_large_file_is_refused(hub):
    endpoint, _ = hub
    assert httpx.put(f"{endpoint}/lfs/{'0' * 64}", content=b"anderes").status_code == 422


@pytest.mark.parametrize("body", ["", "{}", "kein JSON", '{"key": "file", "value": {}}'])
def test_bad_commit_is_refused(hub, api, name, body):
    endpoint, _ = hub
    api.create_repo(name, exist_ok=True)
    headers = {"Authorization": f"Bearer {api.token}"}
    answer = httpx.post(f"{endpoint}/api/models/{name}/commit/main", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert [commit.title for commit in api.list_repo_commits(name)] == ["initial commit"]


def test_file_outside_the_repository_is_refused(api, name):
    api.create_repo(name)
    with pytest.raises((HfHubHTTPError, ValueError)):
        upload(api, name, {"../a.txt": "a"}, "model")


def test_tag_stays_where_it_is(api, name):
    api.create_repo(name)
    api.create_tag(name, tag="1.0.0")
    before = api.model_info(name, revision="1.0.0").sha
    upload(api, name, {"a.txt": "a"}, "model")
    with pytest.raises(HfHubHTTPError):
        api.create_tag(name, tag="1.0.0")
    assert api.model_info(name, revision="1.0.0").sha == before != api.model_info(name).sha


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("sdk: streamlit", '"sdk" must be one of [gradio, docker, static]'),
        ("title: x", '"sdk" is required'),
        ("sdk: gradio\npython_version: 3.10", '"python_version" must be a string'),
        ("sdk: gradio\ncolorTo: teal", '"colorTo" must be one of [red, yellow,'),
        ("sdk: docker\napp_port: '80'", '"app_port" must be an integer'),
        (f"sdk: gradio\nshort_description: {'x' * 61}", "less than or equal to 60 characters"),
    ],
)
def test_bad_card_is_refused_everywhere_with_its_reason(api, name, head, said, monkeypatch):
    text = f"---\n{head}\n---\n"
    assert said in "\n".join(cards.check(text, "space")[1])
    api.create_repo(name, repo_type="space", space_sdk="static", exist_ok=True)
    with pytest.raises(ValueError) as refused:
        upload(api, name, {"README.md": text})
    assert said in str(refused.value)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", api.endpoint)
    with pytest.raises(ValueError) as refused:
        SpaceCard(text).validate()
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("---\nsdk: [\n---\n", "bad indentation or syntax"),
        ("---\nnur Text\n---\n", "metadata must be a mapping"),
        ("---\nsdk: static\nlast: 2024-13-45\n---\n", "month must be in 1..12"),
        ("---\nsdk: static\nlast: 2024-01-02\n2024-01-02: last\n---\n", "keys must be str"),
        (f"---\nsdk: static\nlast: {'[' * 2000}\n---\n", "recursion"),
        ("---\nsdk: static\nlast: &a [*a]\n---\n", "Circular"),
        ("---\nsdk: static\ncustom_headers: {1: 2, a: 2}\n---\n", '"custom_headers" must be'),
        ("# Ohne Kopf", cards.WORDS["no_head"]),
    ],
)
def test_card_that_is_no_yaml_is_refused(text, said):
    assert said in cards.check(text, "space")[1][0]


@pytest.mark.parametrize("sdk", ["gradio", "docker", "static"])
def test_good_card_is_accepted(sdk):
    assert cards.check(CARD.format(sdk=sdk), "space")[1:] == ([], [])


def test_date_in_a_card_comes_back_as_text(api, name):
    api.create_repo(name)
    upload(api, name, {"README.md": "---\nlast: 2024-01-02\n---\n"}, "model")
    assert api.model_info(name).card_data["last"] == "2024-01-02"


def test_model_without_card_is_only_warned_about(api, name):
    api.create_repo(name)
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        upload(api, name, {"README.md": "# Ohne Kopf"}, "model")


def test_static_space_is_served_as_it_is(api, name):
    api.create_repo(name, repo_type="space", space_sdk="static")
    upload(api, name, STATIC)
    assert api.wait_for_space(name, timeout=60, poll_interval=0.1).stage == "RUNNING"
    assert "Eins" in httpx.get(api.space_info(name).host).text


def test_application_sees_its_settings_and_nothing_of_this_machine(api, name):
    more = {"space_variables": [{"key": "EINS", "value": "1"}]}
    assert gradio_space(api, name, SERVER, **more) == "RUNNING"
    api.add_space_secret(name, "ZWEI", "2")
    assert api.wait_for_space(name, timeout=60, poll_interval=0.1).stage == "RUNNING"
    seen = httpx.get(api.space_info(name).host).json()
    assert (seen["EINS"], seen["ZWEI"], seen["SPACE_ID"]) == ("1", "2", name)
    assert "LOCAL_HUB_TOKENS" not in seen and api.token not in json.dumps(seen)
    assert api.get_space_secrets(name)["ZWEI"].key == "ZWEI"
    assert "2" not in json.dumps([vars(secret) for secret in api.get_space_secrets(name).values()])


def test_application_that_dies_later_is_noticed(api, name):
    # Die erste Anfrage ist die des Space-Runners.
    code = SERVER.replace("def do_GET(self):", "def do_GET(self, seen=[]):")
    code = code.replace(
        "self.send_response(200)",
        "seen and os._exit(7); seen.append(1)\n" + " " * 8 + "self.send_response(200)",
    )
    assert gradio_space(api, name, code) == "RUNNING"
    with pytest.raises(httpx.TransportError):
        httpx.get(api.space_info(name).host)
    deadline = time.monotonic() + 30
    while (runtime := api.get_space_runtime(name)).stage == "RUNNING":
        assert time.monotonic() < deadline
    assert runtime.stage == "RUNTIME_ERROR" and "Exit code: 7" in runtime.raw["errorMessage"]


def test_broken_application_shows_its_traceback(api, name):
    assert gradio_space(api, name, "import gibt_es_nicht") == "RUNTIME_ERROR"
    assert "No module named 'gibt_es_nicht'" in "".join(api.fetch_space_logs(name))
    upload(api, name, {"app.py": SERVER})
    assert api.wait_for_space(name, timeout=60, poll_interval=0.1).stage == "RUNNING"
    assert "".join(api.fetch_space_logs(name)).splitlines()[0] == "bereit"


@pytest.mark.parametrize(
    ("requirements", "said"),
    [
        ("paket-das-es-nicht-gibt==1.0", "Dieses Paket gibt es hier nicht."),
        ("das ist keins", "keine Angabe eines Pakets"),
    ],
)
def test_packages_that_cannot_be_installed_fail_the_build(api, name, requirements, said):
    api.create_repo(name, repo_type="space", space_sdk="gradio", exist_ok=True)
    files = {"README.md": CARD.format(sdk="gradio"), "app.py": SERVER}
    upload(api, name, files | {"requirements.txt": requirements})
    assert api.wait_for_space(name, timeout=60, poll_interval=0.1).stage == "BUILD_ERROR"
    assert said in "".join(api.fetch_space_logs(name, build=True))


def test_space_without_application_says_so(api, name):
    api.create_repo(name, repo_type="space", space_sdk="gradio")
    upload(api, name, {"README.md": CARD.format(sdk="gradio")})
    assert api.wait_for_space(name, timeout=60, poll_interval=0.1).stage == "NO_APP_FILE"


def test_space_deleted_while_it_answers_ends(api, name):
    assert gradio_space(api, name, SERVER) == "RUNNING"
    host = api.space_info(name).host
    assert httpx.get(host).status_code == 200
    api.delete_repo(name, repo_type="space")
    with pytest.raises(httpx.TransportError):
        httpx.get(host)
    with pytest.raises(RepositoryNotFoundError):
        api.get_space_runtime(name)


def test_paused_space_rests_until_it_is_restarted(api, name):
    assert gradio_space(api, name, SERVER) == "RUNNING"
    host = api.space_info(name).host
    assert api.pause_space(name).stage == "PAUSED"
    with pytest.raises(httpx.TransportError):
        httpx.get(host)
    api.restart_space(name)
    assert api.wait_for_space(name, timeout=60, poll_interval=0.1).stage == "RUNNING"


def git(folder: Path, *arguments: str, token: str = "") -> subprocess.CompletedProcess:
    """Git mit einem Schlüssel, der weder im Befehl noch in der Adresse steht."""
    key = base64.b64encode(f"kurs:{token}".encode()).decode()
    header = {
        **{"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.extraHeader"},
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {key}",
    }
    fixed = {
        **{"GIT_AUTHOR_NAME": "kurs", "GIT_AUTHOR_EMAIL": "kurs@example.org"},
        **{"GIT_COMMITTER_NAME": "kurs", "GIT_COMMITTER_EMAIL": "kurs@example.org"},
        **{"GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"},
        "GIT_LFS_SKIP_SMUDGE": "1",
    }
    return subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=os.environ | fixed | (header if token else {}),
        capture_output=True,
        encoding="utf-8",
    )


def test_push_rebuilds_and_a_bad_card_is_pushed_back(api, name, tmp_path):
    api.create_repo(name, repo_type="space", space_sdk="static")
    upload(api, name, STATIC)
    copy = tmp_path / "copy"
    assert git(tmp_path, "clone", f"{api.endpoint}/spaces/{name}", "copy").returncode == 0
    (copy / "index.html").write_text("<title>Zwei</title>", encoding="utf-8")
    git(copy, "commit", "-am", "Zwei")
    assert git(copy, "push").returncode != 0  # ohne Schlüssel
    assert git(copy, "push", token="hf_falsch").returncode != 0
    # Was im Parameter steht, ändert nichts an dem, was der Pfad verlangt.
    push = f"{api.endpoint}/spaces/{name}/git-receive-pack?service=git-upload-pack"
    assert httpx.post(push, content=b"0000").status_code == 401
    assert git(copy, "push", token=api.token).returncode == 0
    assert api.wait_for_space(name, timeout=60, poll_interval=0.1).stage == "RUNNING"
    assert "Zwei" in httpx.get(api.space_info(name).host).text
    (copy / "README.md").write_text(CARD.format(sdk="streamlit"), encoding="utf-8")
    git(copy, "commit", "-am", "Drei")
    refused = git(copy, "push", token=api.token)
    assert refused.returncode != 0 and '"sdk" must be one of' in refused.stderr
    assert [commit.title for commit in api.list_repo_commits(name, repo_type="space")][0] == "Zwei"


def test_clone_of_a_model_holds_pointers(api, name, tmp_path):
    api.create_repo(name, private=True)
    upload(api, name, {"model.onnx": b"\0" * 5000}, "model")
    address = f"{api.endpoint}/{name}"
    assert git(tmp_path, "clone", address, "copy").returncode != 0
    assert git(tmp_path, "clone", address, "copy", token=api.token).returncode == 0
    pointer = (tmp_path / "copy" / "model.onnx").read_text("utf-8")
    assert pointer.startswith("version https://git-lfs") and pointer.endswith("size 5000\n")


def test_space_paused_while_it_starts_stays_paused(api, name):
    api.create_repo(name, repo_type="space", space_sdk="gradio")
    code = "import time\ntime.sleep(100)\n" + SERVER
    upload(api, name, {"README.md": CARD.format(sdk="gradio"), "app.py": code})
    deadline = time.monotonic() + 30
    while api.get_space_runtime(name).stage != "APP_STARTING":
        assert time.monotonic() < deadline
    assert api.pause_space(name).stage == "PAUSED"
    assert api.get_space_runtime(name).stage == "PAUSED"


def test_commit_on_an_outdated_parent_is_refused(api, name):
    api.create_repo(name)
    parent = api.model_info(name).sha
    upload(api, name, {"a.txt": "a"}, "model")
    late = [huggingface_hub.CommitOperationAdd("a.txt", b"b")]
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_commit(name, late, commit_message="Test", parent_commit=parent)
    assert refused.value.response.status_code == 412


@pytest.mark.parametrize(
    "wanted",
    [
        *({"name": name} for name in ("../../../draussen", "a/b", "", "a b", ".", "..")),
        {"name": "x", "organization": "kurs/../../../draussen"},
    ],
)
def test_name_that_is_a_path_is_refused(hub, api, wanted):
    endpoint, _ = hub
    answer = httpx.post(
        f"{endpoint}/api/repos/create",
        json=wanted,
        headers={"Authorization": f"Bearer {api.token}"},
    )
    assert answer.status_code == 400 and "Ungültiger Name" in answer.json()["error"]


@pytest.mark.parametrize("path", ["../a.txt", "a/../../b.txt", "/a.txt", ".git/config"])
def test_server_refuses_a_file_outside_the_repository(hub, api, name, path):
    # Am SDK vorbei: Es weist solche Pfade selbst ab und fragt den Server gar nicht.
    endpoint, _ = hub
    api.create_repo(name, exist_ok=True)
    content = base64.b64encode(b"a").decode()
    rows = [
        {"key": "header", "value": {"summary": "x"}},
        {"key": "file", "value": {"path": path, "content": content}},
    ]
    answer = httpx.post(
        f"{endpoint}/api/models/{name}/commit/main",
        content="\n".join(map(json.dumps, rows)),
        headers={"Authorization": f"Bearer {api.token}"},
    )
    assert answer.status_code == 400, answer.text
    assert [commit.title for commit in api.list_repo_commits(name)] == ["initial commit"]
