"""Geladen wird nur, was die eigene Unterschrift trägt; das Museum öffnet sich noch."""

import functools
import json
import os
import pickle
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import joblib
import pandas as pd
import pytest
import skops.io

import process
from contract import require_environment
from examples.joblib_model.store import MANIFEST, UnusableModelError
from examples.pickle_model import museum, signed, skops_store, store
from examples.price_model.predict import ARTIFACTS
from examples.price_model.schema import EXAMPLE

PIPELINE = joblib.load(ARTIFACTS / "price_model.joblib")
SECRET = bytes(range(32))
# Wer davon angerührt wird, hat die Datei entpackt.
UNPACKERS = {store: "RestrictedUnpickler", skops_store: "loads"}
MUSEUM = Path(__file__).resolve().parent.parent / "artefacts"
MAX_MUSEUM_BYTES = 3_000_000
MAX_SAVEDMODEL_BYTES = 300_000


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv(signed.KEY, SECRET.hex())


@pytest.fixture(params=[store, skops_store], ids=["pickle", "skops"])
def module(request):
    return request.param


@functools.cache
def saved(module: ModuleType) -> dict[str, bytes]:
    """Die Dateien des gespeicherten Modells; einmal für alle Tests, denn das Packen dauert."""
    with tempfile.TemporaryDirectory() as folder:
        module.save(PIPELINE, Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.fixture
def folder(tmp_path, module):
    for name, data in saved(module).items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.fixture
def sealed(monkeypatch, module):
    """Ab hier scheitert der Test, sobald etwas entpackt wird."""
    monkeypatch.setattr(module, UNPACKERS[module], lambda *_, **__: pytest.fail("entpackt"))


def resign(folder, **changes):
    """Ändert den Beipackzettel und unterschreibt ihn mit dem echten Schlüssel."""
    slip = json.loads((folder / MANIFEST).read_bytes()) | changes
    manifest = json.dumps(slip).encode()
    (folder / MANIFEST).write_bytes(manifest)
    (folder / signed.SIGNATURE).write_bytes(signed.sign(manifest, SECRET))


def test_saved_model_gives_the_same_prices(folder, module):
    pipeline, version = module.load(folder)
    table = pd.DataFrame([EXAMPLE])
    assert version == "1.0.0"
    assert pipeline.predict(table) == PIPELINE.predict(table)
    assert {path.name for path in folder.iterdir()} == {module.MODEL, MANIFEST, signed.SIGNATURE}


@pytest.mark.parametrize("position", [0, 100, -1])
def test_one_changed_byte_of_the_model_is_refused(folder, module, sealed, position):
    data = bytearray((folder / module.MODEL).read_bytes())
    data[position] ^= 1
    (folder / module.MODEL).write_bytes(data)
    with pytest.raises(UnusableModelError, match="nicht die unterschriebene Datei"):
        module.load(folder)


@pytest.mark.parametrize("name", [MANIFEST, signed.SIGNATURE])
def test_every_changed_byte_beside_the_model_is_refused(folder, module, monkeypatch, name):
    # Vor der Unterschrift wird auch der Zettel nicht gelesen.
    monkeypatch.setattr(signed.json, "loads", lambda *_: pytest.fail("gelesen"))
    original = (folder / name).read_bytes()
    changed = [
        bytes([*original[:at], byte ^ 0b100000, *original[at + 1 :]])
        for at, byte in enumerate(original)
    ]
    for data in (*changed, original[:-1], original + b"\n", b"", b"\xff"):
        (folder / name).write_bytes(data)
        with pytest.raises(UnusableModelError, match="Unterschrift passt nicht"):
            module.load(folder)


def test_new_fingerprint_does_not_help_without_the_key(folder, module, sealed):
    stranger = b"fremdes Modell"
    (folder / module.MODEL).write_bytes(stranger)
    slip = json.loads((folder / MANIFEST).read_bytes())
    slip["sha256"] = signed.hashlib.sha256(stranger).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(slip))
    with pytest.raises(UnusableModelError, match="Unterschrift passt nicht"):
        module.load(folder)


def test_other_key_is_refused(folder, module, sealed, monkeypatch):
    monkeypatch.setenv(signed.KEY, SECRET[::-1].hex())
    with pytest.raises(UnusableModelError, match="Unterschrift passt nicht"):
        module.load(folder)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "MODEL_KEY mit dem Schlüssel fehlt"),
        ("", "MODEL_KEY mit dem Schlüssel fehlt"),
        ("ab" * 31, "31 Byte, nötig sind 32"),
        ("abc", "nicht aus Paaren von Hexzeichen"),
        ("geheim!", "nicht aus Paaren von Hexzeichen"),
    ],
)
def test_unusable_key_is_explained(tmp_path, folder, module, monkeypatch, text, reason):
    if text is None:
        monkeypatch.delenv(signed.KEY)
    else:
        monkeypatch.setenv(signed.KEY, text)
    with pytest.raises(UnusableModelError, match=reason):
        module.load(folder)
    with pytest.raises(UnusableModelError, match=reason) as error:
        module.save([1, 2, 3], tmp_path / "neu")
    assert not (tmp_path / "neu").exists()
    assert not text or text not in str(error.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_version": "0.9.0"}, r"model_version: unterschrieben ist 0\.9\.0, gebraucht"),
        ({"scikit-learn": "1.5.2"}, r"scikit-learn: unterschrieben ist 1\.5\.2"),
        ({"features": ["weight"]}, "features: unterschrieben ist"),
        ({"file": "anderes"}, "file: unterschrieben ist anderes"),
    ],
)
def test_genuine_signature_of_an_unfitting_model_is_refused(folder, module, sealed, change, reason):
    resign(folder, **change)
    with pytest.raises(UnusableModelError, match=reason):
        module.load(folder)


def test_signed_skops_file_does_not_pass_as_pickle(tmp_path):
    skops_store.save(PIPELINE, tmp_path)
    (tmp_path / skops_store.MODEL).rename(tmp_path / store.MODEL)
    with pytest.raises(UnusableModelError, match=r"file: unterschrieben ist model\.skops"):
        store.load(tmp_path)


@pytest.mark.parametrize("name", ["model", MANIFEST, signed.SIGNATURE])
def test_missing_file_is_named(folder, module, name):
    name = module.MODEL if name == "model" else name
    (folder / name).unlink()
    with pytest.raises(UnusableModelError, match=f"{name} fehlt"):
        module.load(folder)


def test_failed_saving_keeps_the_old_model(folder, module, monkeypatch):
    write_bytes = Path.write_bytes

    def full_disk(path, data):
        if path.name.startswith(signed.SIGNATURE):
            raise OSError("Kein Platz mehr")
        return write_bytes(path, data)

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="Kein Platz"):
        module.save([1, 2, 3], folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


FIRED = []


class Trojan:
    """Ruft beim Laden `eval` auf; harmlos, aber nachweisbar."""

    def __reduce__(self):
        return eval, ("fired.append(1)", {"fired": FIRED})


def test_allow_list_stops_a_trojan_even_with_a_genuine_signature(tmp_path):
    pickle.loads(pickle.dumps(Trojan()))  # so sähe es ohne Freigabeliste aus: es läuft
    signed.write(tmp_path, store.MODEL, pickle.dumps(Trojan(), protocol=store.PROTOCOL))
    with pytest.raises(UnusableModelError, match=r"builtins\.eval ist nicht freigegeben"):
        store.load(tmp_path)


@pytest.mark.parametrize(
    ("stream", "name"),
    [
        (b"cposix\nsystem\n.", "posix.system"),
        (b"cnumpy\nload\n.", "numpy.load"),
        # Protokoll 4 erlaubt Punkte im Namen: ein Umweg über ein freigegebenes Objekt.
        (b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.", "numpy.ndarray.dumps"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__base__\x93.", "numpy.dtype.__base__"),
    ],
)
def test_allow_list_knows_only_whole_names(tmp_path, stream, name):
    signed.write(tmp_path, store.MODEL, stream)
    with pytest.raises(UnusableModelError, match=f"{name} ist nicht freigegeben"):
        store.load(tmp_path)


def test_allow_list_holds_exactly_what_the_model_needs(tmp_path, monkeypatch):
    needed = {}

    class Recorder(pickle.Unpickler):
        def find_class(self, module, name):
            needed.setdefault(module, set()).add(name)
            return super().find_class(module, name)

    monkeypatch.setattr(store, "RestrictedUnpickler", Recorder)
    store.save(PIPELINE, tmp_path)
    store.load(tmp_path)
    assert needed == store.ALLOWED


def test_skops_trusts_exactly_what_the_model_needs(tmp_path):
    skops_store.save(PIPELINE, tmp_path)
    untrusted = skops.io.get_untrusted_types(file=tmp_path / skops_store.MODEL)
    assert untrusted == skops_store.TRUSTED


@pytest.mark.parametrize("content", [print, Trojan()], ids=["function", "class"])
def test_skops_refuses_types_nobody_reviewed(tmp_path, content):
    signed.write(tmp_path, skops_store.MODEL, skops.io.dumps(content))
    fired = len(FIRED)
    with pytest.raises(UnusableModelError, match="Nicht freigegeben"):
        skops_store.load(tmp_path)
    assert len(FIRED) == fired


# Die Tests haben das Modul schon importiert; `runpy` führt es absichtlich noch einmal aus.
@pytest.mark.filterwarnings("ignore:.* found in sys.modules:RuntimeWarning")
def test_command_line_saves_answers_and_refuses(tmp_path, module, monkeypatch, capsys):
    said = process.output(["python", "-m", module.__name__, "save", tmp_path])
    assert said == f"{module.MODEL}, manifest.json und manifest.hmac gespeichert.\n"

    def ask() -> tuple[int, str, str]:
        # Wie mit `python -m`, aber hier, denn ein neuer Prozess lädt jedes Mal scikit-learn.
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(module.__name__, run_name="__main__")
        return ended.value.code, *capsys.readouterr()

    monkeypatch.setattr(sys, "argv", ["", "predict", str(tmp_path), json.dumps(EXAMPLE)])
    code, answer, complained = ask()
    assert (code, complained) == (0, "")
    assert json.loads(answer)[0] == pytest.approx(2988, abs=1)
    monkeypatch.setenv(signed.KEY, "ab")
    assert ask() == (1, "", "MODEL_KEY hat 1 Byte, nötig sind 32.\n")


EXHIBITS = [
    pytest.param(folder, entry, id=f"{folder.name} {entry['format']}")
    for folder in sorted(MUSEUM.iterdir())
    for entry in museum.provenance(folder)
]
# Was sich schon heute nicht mehr öffnet, und woran es liegt; Neues kommt hier nur mit Befund dazu.
LOST = {
    "2024-11 joblib": "_RemainderColsList",
    "2024-11 pickle": "_RemainderColsList",
    "2024-11 skops": "_RemainderColsList",
}


@pytest.mark.parametrize(("folder", "entry"), EXHIBITS)
def test_exhibit_opens_with_the_prices_of_its_day(folder, entry):
    if museum.FORMATS[entry["format"]].environment:
        require_environment(museum.FORMATS[entry["format"]].environment)
    good, finding = museum.visit(folder, entry)
    lost = LOST.get(f"{folder.name} {entry['format']}")
    if lost is None:
        assert good, f"{folder.name}/{entry['file']}: {finding}"
    else:
        assert not good
        assert finding.startswith("lädt nicht:\n  AttributeError: ") and lost in finding


def test_museum_is_small_and_every_file_has_its_provenance():
    for folder in MUSEUM.iterdir():
        listed = {entry["file"] for entry in museum.provenance(folder)}
        assert {path.name for path in folder.iterdir()} == listed | {museum.PROVENANCE}
    assert sum(path.stat().st_size for path in MUSEUM.rglob("*.*")) < MAX_MUSEUM_BYTES
    archives = list(MUSEUM.rglob("*.savedmodel.zip"))
    assert archives and all(path.stat().st_size < MAX_SAVEDMODEL_BYTES for path in archives)
    assert {entry["format"] for entry in museum.provenance(MUSEUM / "2026-11")} >= set(
        museum.FORMATS
    )


@pytest.fixture
def wing(tmp_path):
    """Eine Kopie des Museums von heute, an der sich etwas verderben lässt."""
    return Path(shutil.copytree(MUSEUM / "2026-11", tmp_path / "2026-11"))


@pytest.fixture
def without_environment(monkeypatch, tmp_path):
    """Ein Rechner, auf dem TensorFlow nicht eingerichtet ist."""
    monkeypatch.setattr(museum, "ROOT", tmp_path / "anderswo")


def visit(wing, name):
    (entry,) = (entry for entry in museum.provenance(wing) if entry["format"] == name)
    return museum.visit(wing, entry)


def replace(wing, name, data):
    """Tauscht ein Stück samt Fingerabdruck aus, wie beim Einlegen einer schlechten Datei."""
    entries = museum.provenance(wing)
    (entry,) = (entry for entry in entries if entry["format"] == name)
    (wing / entry["file"]).write_bytes(data)
    entry["sha256"] = signed.hashlib.sha256(data).hexdigest()
    (wing / museum.PROVENANCE).write_text(json.dumps(entries), encoding="utf-8")


def run_here(monkeypatch, *arguments):
    """Ruft die Befehlszeile hier auf, denn ein neuer Prozess lädt jedes Mal scikit-learn."""
    monkeypatch.setattr(sys, "argv", ["museum", *map(str, arguments)])
    return museum.main()


@pytest.mark.parametrize("name", ["pickle", "savedmodel"])
def test_changed_exhibit_is_not_opened(wing, monkeypatch, name):
    monkeypatch.setattr(museum.subprocess, "run", lambda *_, **__: pytest.fail("geöffnet"))
    (path,) = wing.glob(f"price_model.{name}*")
    path.write_bytes(pickle.dumps(Trojan()))
    fired = len(FIRED)
    assert visit(wing, name) == (False, "nicht geöffnet: Der Fingerabdruck passt nicht")
    assert len(FIRED) == fired


def test_missing_exhibit_is_reported(wing):
    (wing / "price_model.onnx").unlink()
    assert visit(wing, "onnx") == (False, "fehlt")


@pytest.mark.parametrize("price", [1.0, float("nan")])
def test_other_prices_are_reported(wing, price):
    entry = museum.provenance(wing)[0]
    opened = ", ".join(f"{price:.2f}" for price in entry["prices_usd"])
    entry["prices_usd"][1] = price
    assert museum.visit(wing, entry) == (False, f"andere Preise: {opened}")


def test_unknown_format_is_reported(wing):
    entry = museum.provenance(wing)[0] | {"format": "hdf5"}
    finding = "nicht geöffnet: Das Format hdf5 ist unbekannt"
    assert museum.visit(wing, entry) == (False, finding)


def test_moved_class_is_reported_without_a_path(wing, monkeypatch):
    monkeypatch.delattr(sys.modules["sklearn.pipeline"], "Pipeline")
    good, finding = visit(wing, "pickle")
    assert not good
    assert finding.startswith("lädt nicht:\n  AttributeError: Can't get attribute 'Pipeline'")
    assert "site-packages" not in finding


def test_warning_of_a_new_version_is_part_of_the_finding(wing, monkeypatch):
    monkeypatch.setattr("sklearn.base.__version__", "9.9.9")
    assert visit(wing, "pickle") == (
        True,
        "gleiche Preise, mit Warnung: InconsistentVersionWarning",
    )


def test_adding_again_leaves_everything_untouched(wing, monkeypatch, capsys):
    before = {path.name: path.read_bytes() for path in wing.iterdir()}
    assert run_here(monkeypatch, "add", wing) == 0
    assert capsys.readouterr() == ("Eingelegt: nichts, alles da\n", "")
    assert {path.name: path.read_bytes() for path in wing.iterdir()} == before


def test_adding_fills_a_new_wing(tmp_path):
    require_environment("tensorflow_savedmodel")
    assert museum.add(tmp_path / "neu", ["pickle"]) == ["pickle"]
    added = museum.add(tmp_path / "neu", museum.FORMATS)
    assert added == ["joblib", "skops", "onnx", "savedmodel"]
    findings = {visit(tmp_path / "neu", name) for name in museum.FORMATS}
    assert findings == {(True, "gleiche Preise")}


def test_visit_prints_a_finding_per_exhibit(wing, monkeypatch, capsys):
    assert run_here(monkeypatch, "visit", wing, "onnx", "pickle") == 0
    assert capsys.readouterr().out.splitlines() == [
        "price_model.pickle gleiche Preise",
        "price_model.onnx   gleiche Preise",
    ]


def test_lost_exhibit_makes_the_visit_fail(wing):
    (wing / "price_model.skops").write_bytes(b"")
    command = ["python", "-m", "examples.pickle_model.museum", "visit", wing, "skops", "onnx"]
    with pytest.raises(process.ProcessError, match=r"price_model\.skops +nicht geöffnet"):
        process.output(command)


def test_missing_environment_is_a_hint_unless_the_format_was_named(
    wing, monkeypatch, capsys, without_environment
):
    hint = (
        "price_model.savedmodel.zip übersprungen: Es fehlt die Umgebung. "
        "Abhilfe: python tools/setup.py tensorflow_savedmodel\n"
    )
    assert run_here(monkeypatch, "visit", wing) == 0
    assert capsys.readouterr().out.endswith(f"gleiche Preise\n{hint}")
    assert run_here(monkeypatch, "visit", wing, "savedmodel") == 1
    assert capsys.readouterr().out == hint


def test_nothing_is_added_when_an_environment_is_missing(
    tmp_path, monkeypatch, capsys, without_environment
):
    assert run_here(monkeypatch, "add", tmp_path / "neu") == 1
    assert capsys.readouterr().err == (
        "Es fehlt die Umgebung. Abhilfe: python tools/setup.py tensorflow_savedmodel\n"
    )
    assert not (tmp_path / "neu").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["visit", "{wing}/leer"], "In leer/ liegt kein Stück: provenance.json"),
        (["visit", "{old}", "savedmodel"], "In 2024-11/ liegt kein Stück: savedmodel"),
    ],
)
def test_unusable_folder_is_one_german_line(wing, arguments, reason, monkeypatch, capsys):
    places = [argument.format(wing=wing, old=MUSEUM / "2024-11") for argument in arguments]
    assert run_here(monkeypatch, *places) == 1
    assert capsys.readouterr() == ("", f"{reason}\n")


@pytest.mark.parametrize(
    "content", ["[{", "[{}]", "[1]", "null", "[" * 100_000], ids=lambda t: t[:4]
)
def test_broken_provenance_is_one_german_line(wing, content, monkeypatch, capsys):
    (wing / museum.PROVENANCE).write_text(content, encoding="utf-8")
    reason = "provenance.json in 2026-11/ ist keine vollständige Herkunftsangabe."
    assert run_here(monkeypatch, "visit", wing, "onnx") == 1
    assert capsys.readouterr() == ("", f"{reason}\n")


def test_folder_is_packed_the_same_way_every_time(tmp_path):
    for name in ("eins", "zwei"):
        (tmp_path / name / "variables").mkdir(parents=True)
    for name in ("b", "a", "variables/c"):
        (tmp_path / "eins" / name).write_text(name)
    for name in ("variables/c", "a", "b"):
        (tmp_path / "zwei" / name).write_text(name)
    os.utime(tmp_path / "zwei" / "a", (0, 10**9))
    (tmp_path / "zwei" / "b").chmod(0o600)
    first, second = museum.pack(tmp_path / "eins"), museum.pack(tmp_path / "zwei")
    assert first == second
    museum.unpack(first, tmp_path / "drei")
    assert (tmp_path / "drei" / "variables" / "c").read_text() == "variables/c"


def archive():
    return (MUSEUM / "2026-11" / "price_model.savedmodel.zip").read_bytes()


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lambda: b"", "beschädigt"),
        (lambda: b"kein Archiv", "beschädigt"),
        (lambda: archive()[:-100], "beschädigt"),
        (lambda: archive()[:9000], "beschädigt"),
        (lambda: flipped(archive(), 5000), "beschädigt"),
        (lambda: museum.pack(MUSEUM / "2024-11"), "kein SavedModel"),
    ],
    ids=["empty", "text", "no end", "half", "one byte", "something else"],
)
def test_broken_archive_is_explained(data, reason):
    with pytest.raises(museum.MuseumError, match=reason):
        museum.load_savedmodel(data())


def test_broken_archive_is_reported_from_its_environment(wing, monkeypatch, capsys):
    require_environment("tensorflow_savedmodel")
    replace(wing, "savedmodel", b"kein Archiv")
    assert run_here(monkeypatch, "visit", wing, "savedmodel") == 1
    finding = "lädt nicht: Die ZIP-Datei ist beschädigt"
    assert capsys.readouterr().out == f"price_model.savedmodel.zip {finding}\n"


def test_failing_environment_gives_its_last_line(wing, monkeypatch):
    require_environment("tensorflow_savedmodel")
    monkeypatch.setenv("PYTHONPATH", str(wing))
    (wing / "tensorflow.py").write_text("raise SystemExit('Kein Speicher mehr')")
    assert visit(wing, "savedmodel") == (False, "lädt nicht:\n  Kein Speicher mehr")
    monkeypatch.setattr(museum, "call", lambda *_: subprocess.CompletedProcess([], -9, "", ""))
    assert visit(wing, "savedmodel") == (False, "lädt nicht:\n  ohne Meldung beendet")


def test_environment_that_hangs_is_a_finding(wing, monkeypatch):
    require_environment("tensorflow_savedmodel")
    monkeypatch.setattr(museum, "PATIENCE", 0.001)
    finding = "lädt nicht: savedmodel: Nach 0.001 s kam keine Antwort."
    assert visit(wing, "savedmodel") == (False, finding)


def test_museum_needs_only_what_it_opens():
    """Auch dort, wo die Pakete der anderen Formate fehlen, öffnet sich das eigene."""
    script = "import examples.pickle_model.museum, sys; print({'onnx', 'skops'} & set(sys.modules))"
    assert process.output(["python", "-c", script]) == "set()\n"
