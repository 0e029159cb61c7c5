"""Was auf den Hub geht, ist vollständig, gültig und darf nur, was es muss."""

import ast
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import nbformat
import pytest
import yaml
from huggingface_hub import HfApi, SpaceCard
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import process
from contract import SPACE, local_hub
from examples.huggingface_space import access, assemble
from examples.local_cloud import cards
from examples.price_model.predict import ARTIFACTS, load_metadata
from test_workflows import PINNED, checked

FOLDER = process.ROOT / "examples" / "huggingface_space"
WORKFLOW = FOLDER / "sync_space.yml"
CARD = SpaceCard.load(FOLDER / "README.md").data
APP = """
import http.server, os
address = os.environ["GRADIO_SERVER_NAME"], int(os.environ["GRADIO_SERVER_PORT"])
http.server.test(http.server.SimpleHTTPRequestHandler, port=address[1], bind=address[0])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("hub")
    assemble.main(target)
    return target


@pytest.fixture(scope="module")
def hub():
    with local_hub() as (endpoint, tokens):
        yield endpoint, tokens


@pytest.mark.parametrize("part", ["space", "static", "model"])
def test_cards_are_valid(folder, part):
    text = (folder / part / "README.md").read_text("utf-8")
    assert cards.check(text, "model" if part == "model" else "space")[1:] == ([], [])


def test_card_names_the_versions_of_this_project():
    lock = (process.ROOT / "requirements.txt").read_text("utf-8").splitlines()
    assert f"gradio=={CARD.sdk_version}" in lock, "sdk_version in README.md nachziehen"
    # In Anführungszeichen, sonst wird aus 3.10 die Zahl 3.1.
    assert CARD.python_version in ("3.11", "3.12", "3.13")


def test_space_names_every_package_it_imports(folder):
    imported = {
        name.split(".")[0]
        for path in (folder / "space").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for name in names(node)
    }
    # Nur wer trainiert oder mit scikit-learn rechnet, importiert diese beiden, und erst dann.
    later = {"joblib", "sklearn"}
    foreign = imported - sys.stdlib_module_names - later - {"examples"}
    providers = packages_distributions()
    needed = {providers[name][0].lower().replace("_", "-") for name in foreign}
    # Beides wählt der Hub: Gradio in der Version der Karte und dazu ein passendes pydantic.
    # Von plotnine liest data.py nur eine Datei.
    assert needed - {"gradio", "pydantic"} | {"plotnine"} == set(assemble.PACKAGES)


def test_pins_agree_with_what_the_hub_adds_to_gradio():
    wanted = [Requirement(line) for line in requires("gradio")]
    extras = {name: str(r.specifier) for r in wanted for name in [r.name] if of_the_hub(r)}
    assert extras["pydantic"], "Die Extras von Gradio heißen anders"
    for line in assemble.requirements().splitlines():
        pin = Requirement(line)
        (fixed,) = pin.specifier
        assert SpecifierSet(extras.get(pin.name, "")).contains(fixed.version), line


def of_the_hub(requirement: Requirement) -> bool:
    """Installiert der Hub das mit `gradio[oauth,mcp]`?"""
    marker = requirement.marker
    return marker is not None and any(
        marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})
        for extra in ("oauth", "mcp")
    )


def names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def test_space_is_complete_without_this_project_and_leaves_nothing(folder, tmp_path):
    code = "import sys; from examples.gradio_app import app; print(app.__file__, *sys.modules)"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],  # ohne __pycache__ im Space
        cwd=folder / "space",
        env=env | {"PRICE_MODEL_DIR": str(ARTIFACTS), "TMPDIR": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    started, *modules = done.stdout.split()
    assert Path(started).is_relative_to(folder.resolve())
    assert not {"joblib", "sklearn"} & set(modules)
    assert not list(tmp_path.iterdir())


def test_space_holds_no_model_and_no_key(folder):
    files = [path for path in (folder / "space").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".md", ".py", ".txt"}
    assert not any("hf_" in path.read_text("utf-8").replace("hf_hub", "") for path in files)


def test_model_card_takes_its_numbers_from_the_training(folder):
    metadata = load_metadata()
    card = (folder / "model" / "README.md").read_text("utf-8")
    assert f"im Mittel {metadata['mae_usd']:.0f} US-Dollar" in card
    result = cards.check(card, "model")[0]["model-index"][0]["results"][0]
    assert result["metrics"][0]["value"] == metadata["mae_usd"]
    assert "{{" not in card


def test_static_page_has_no_gaps(folder):
    page = (folder / "static" / "index.html").read_text("utf-8")
    assert "{{" not in page and load_metadata()["model_version"] in page


def test_without_model_nothing_is_written(tmp_path):
    env = {"PRICE_MODEL_DIR": str(tmp_path / "leer")}
    command = ["python", "-m", "examples.huggingface_space.assemble", tmp_path / "hub"]
    with pytest.raises(process.ProcessError, match="make model") as failed:
        process.output(command, env=env)
    assert "Traceback" not in str(failed.value)
    assert not (tmp_path / "hub").exists()
    with pytest.raises(process.ProcessError, match="Aufruf: python"):
        process.output(command[:-1])


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({}, "Es fehlt die Variable MODEL_REPO."),
        ({"MODEL_REPO": "kurs/price-model"}, "Fehlt das Secret HF_TOKEN?"),
    ],
)
def test_start_without_its_settings_is_one_sentence(hub, env, said, tmp_path):
    env |= {"HF_ENDPOINT": hub[0], "HF_HOME": str(tmp_path), "HF_TOKEN": ""}
    with pytest.raises(process.ProcessError, match=re.escape(said)) as failed:
        process.output(["python", "examples/huggingface_space/start.py"], env=env)
    assert "Traceback" not in str(failed.value)


def test_start_takes_the_version_it_is_told(hub, tmp_path):
    endpoint, tokens = hub
    HfApi(endpoint, token=tokens["deploy"]).create_repo("kurs/price-model", private=True)
    env = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_TOKEN": tokens["space"]}
    env |= {"MODEL_REPO": "kurs/price-model", "MODEL_REVISION": "9.9.9"}
    with pytest.raises(process.ProcessError, match="Diesen Stand kennt kurs/price-model nicht"):
        process.output(["python", "examples/huggingface_space/start.py"], env=env, timeout=60)


def test_file_of_an_older_version_does_not_stay(tmp_path):
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "alt.py").touch()
    (tmp_path / "space" / "README.md").write_text("---\n", encoding="utf-8")
    assemble.main(tmp_path)
    assert not (tmp_path / "space" / "alt.py").exists() and (tmp_path / "space/start.py").exists()
    assert {path.name for path in tmp_path.iterdir()} == set(assemble.PARTS)


@pytest.mark.parametrize(
    "foreign",
    [
        {"static/bild.png": ""},
        {"static/README.md": "# Meine Seite"},
        {"static": "eine Datei"},
        {"static/README.md": "---\n", "static/.git/HEAD": "ref: refs/heads/main"},
        {"static/README.md": "---\n", "README.md": "die Vorlage"},
    ],
    ids=["no card", "other readme", "file", "clone", "template"],
)
def test_foreign_folder_stays_and_so_do_the_others(tmp_path, monkeypatch, foreign):
    if "README.md" in foreign:
        monkeypatch.setattr(assemble, "HERE", tmp_path)
    files = foreign | {"space/README.md": "---\n", "space/alt.py": ""}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(FileExistsError, match="stammt nicht von hier und bleibt"):
        assemble.main(tmp_path)
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.relative_to(tmp_path).as_posix() for path in found} == set(files)


def test_interruption_leaves_the_last_state(tmp_path, monkeypatch):
    def interrupt(folder: Path) -> None:
        (folder / "index.html").touch()
        raise KeyboardInterrupt

    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "README.md").write_text("---\n", encoding="utf-8")
    monkeypatch.setitem(assemble.PARTS, "static", interrupt)
    with pytest.raises(KeyboardInterrupt):
        assemble.main(tmp_path)
    assert [*tmp_path.rglob("*")] == [tmp_path / "space", tmp_path / "space" / "README.md"]


def test_interruption_between_old_and_new_brings_the_old_back(tmp_path, monkeypatch):
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "README.md").write_text("---\nalt: ja\n", encoding="utf-8")
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        if target == tmp_path / "space" and path.name == "space":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        assemble.main(tmp_path)
    assert (tmp_path / "space" / "README.md").read_text(encoding="utf-8") == "---\nalt: ja\n"
    assert [path.name for path in tmp_path.iterdir()] == ["space"]


def test_keys_are_new_each_time_and_may_only_what_they_need():
    one, two = access.create(), access.create()
    assert not set(one["accounts"]) & set(two["accounts"])
    assert access.load()["space"] == [
        {
            "entity": {"type": "model", "name": "kurs/price-model"},
            "permissions": ["repo.content.read"],
        }
    ]
    granted = {p for scopes in access.load().values() for s in scopes for p in s["permissions"]}
    assert granted == {"repo.content.read", "repo.write"}


def test_hub_says_of_a_key_what_the_file_says(hub):
    endpoint, tokens = hub
    for role, scopes in access.load().items():
        me = HfApi(endpoint, token=tokens[role]).whoami()
        assert me["auth"]["accessToken"]["fineGrained"]["scoped"] == scopes


def test_workflow_is_valid():
    checked("actionlint", str(WORKFLOW))
    checked("zizmor", "--offline", "--pedantic", "--no-progress", str(WORKFLOW))


def test_workflow_pins_its_actions_and_hides_its_key():
    text = WORKFLOW.read_text("utf-8")
    used = [line.strip().removeprefix("- ") for line in text.splitlines() if "uses:" in line]
    assert used and all(PINNED.match(line) for line in used)
    assert text.count("secrets.HF_TOKEN") == text.count("HF_TOKEN: ")


def commands() -> list[list[str]]:
    """Die Befehle des Workflows, die mit dem Hub reden, ohne den Ordner des Programms."""
    steps = yaml.safe_load(WORKFLOW.read_text("utf-8"))["jobs"]["sync"]["steps"]
    run = [step["run"].split() for step in steps if "/hf " in step.get("run", "")]
    return [["hf", *(part.strip('"') for part in command[1:])] for command in run]


def test_commands_of_the_workflow_deploy_and_fail_with_the_space(hub, tmp_path):
    files = tmp_path / "hub" / "space"
    files.mkdir(parents=True)
    (files / "README.md").write_text("---\nsdk: gradio\n---\n", encoding="utf-8")
    endpoint, tokens = hub
    program = str(Path(sys.executable).with_name("hf"))
    env = os.environ | {"HF_ENDPOINT": endpoint, "HF_TOKEN": tokens["deploy"]}
    env |= {"HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home")}
    HfApi(endpoint, token=tokens["deploy"]).create_repo(
        SPACE, repo_type="space", space_sdk="gradio"
    )
    for code, content in ((1, "import gibt_es_nicht"), (0, APP)):
        (files / "app.py").write_text(content, encoding="utf-8")
        done = [
            subprocess.run([program, *command[1:]], cwd=tmp_path, env=env, capture_output=True)
            for command in commands()
        ]
        assert [one.returncode for one in done] == [0, code], done


def test_old_name_of_the_create_command_is_gone():
    # Der gelesene Stand der Aktion huggingface/hub-sync ruft ihn noch auf.
    offline = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    with pytest.raises(process.ProcessError, match="No such command 'repo'"):
        process.output(["hf", "repo", "create", "kurs/x"], env=offline)


def test_notebook_switched_to_the_cloud_takes_its_keys_from_the_environment(hub):
    book = nbformat.read(process.ROOT / "notebooks" / "huggingface_space.ipynb", as_version=4)
    cells = [cell.source for cell in book.cells if cell.cell_type == "code"]
    first = next(n for n, source in enumerate(cells) if source.startswith("ZIEL ="))
    last = next(n for n, source in enumerate(cells) if "api.whoami()" in source)
    code = "\n".join(["import process", *cells[first : last + 1], "print(USER)"])
    code = code.replace('ZIEL = "lokal"', 'ZIEL = "cloud"')
    endpoint, tokens = hub
    env = {"PYTHONPATH": str(process.ROOT / "notebooks"), "HF_ENDPOINT": endpoint}
    env |= {"HF_TOKEN": tokens["deploy"], "HF_SPACE_TOKEN": tokens["space"]}
    assert process.output(["python", "-c", code], env=env) == "kurs\n"
