"""Was jedes Notebook einhält, ohne es auszuführen; den Rest prüft `make notebooks`."""

import ast
import builtins
import re
from collections import Counter
from functools import cache
from pathlib import Path

import nbformat
import pytest
import quiz
import yaml

from texts import WITHOUT_EXAMPLE
from tools.run_nbval import REQUIREMENTS
from tools.save_notebooks import digest, keeps_output, kernel, text

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ANSWERS = yaml.safe_load((ROOT / "tests" / "answers.yml").read_text(encoding="utf-8"))
IGNORED, VERSIONS = "nbval-ignore-output", "versions"
DEFINING = {"definition", "exercise", "solution"}
TAGS = DEFINING | {IGNORED, VERSIONS, "check", "raises-exception"}
TAGS |= {"hide-cell", "hide-input", "hide-output"}
MAX_CODE_LINES, MAX_OUTPUT_LINES = 10, 30
MIN_EXPLANATION = 40
SECTIONS = [
    "Ansehen",
    "Starten",
    "Benutzen",
    "Fehler provozieren",
    "Prüfen",
    "Was ist seit 2023 anders?",
    "Grenzen",
    "Übung",
    "Selbsttest",
    "Aufräumen",
    "Zusammenfassung",
]
# Nur was ein Dienst ist, wird gestartet.
OPTIONAL = {"Starten"}
# Spuren der Maschine: Ordner, Adressen von Objekten, Namen von Kernelprozessen.
MACHINE = re.compile(
    r"/(?:home|root|tmp|work|Users|private|var/folders)/[\w.-]+|[A-Z]:\\Users\b"
    r"|\b0x[0-9a-fA-F]{6,}|ipykernel_\d+"
)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@cache  # die Tests lesen nur
def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


@pytest.fixture
def notebook(path):
    return read(path)


@pytest.fixture
def code(notebook):
    """Alle Codezellen als (Name für die Meldung, Zelle, Markierungen)."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [(f"Zelle [{n}]", cell, tags(cell)) for n, cell in enumerate(cells, start=1)]


def tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", []))


def tree(cell) -> ast.Module:
    """Liest den Code; auch `await` außerhalb einer Funktion ist in Notebooks erlaubt."""
    return compile(cell.source, "Zelle", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def texts(cell):
    """Alles Lesbare in den Ausgaben einer Zelle, als (Art, Text)."""
    for output in cell.outputs:
        for kind, data in output.get("data", {}).items():
            if not kind.startswith("image/") or kind == "image/svg+xml":
                yield kind, str(data)
        if "text" in output:
            yield "stream", output.text
        if output.output_type == "error":
            yield "error", output.evalue


def complain(problems: list[str]) -> None:
    assert not problems, "\n".join(problems)


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_outputs_are_cleaned_by_few_rules_with_reasons():
    lines = (ROOT / "tests" / "nbval.cfg").read_text(encoding="utf-8").splitlines()
    rules = [n for n, line in enumerate(lines) if line.startswith("[")]
    assert len(rules) <= 8
    complain([f"nbval.cfg: {lines[n]} ohne Grund davor" for n in rules if lines[n - 1][:1] != "#"])


def test_every_code_cell_ran_in_order(code):
    # nbval vergleicht eine Zelle ohne Nummer gar nicht: ein leeres Notebook wäre immer grün.
    complain(
        [
            f"{name} trägt die Nummer {cell.execution_count}: mit make save-notebooks speichern"
            for n, (name, cell, _) in enumerate(code, start=1)
            if cell.execution_count != n
        ]
    )


def test_nothing_on_stderr(code):
    complain(
        [
            f"{name} schreibt auf stderr: {output.text[:200]}"
            for name, cell, _ in code
            for output in cell.outputs
            if output.get("name") == "stderr"
        ]
    )


def test_code_is_plain_python(code):
    problems = []
    for name, cell, _ in code:
        try:
            tree(cell)
        except SyntaxError:
            problems.append(f"{name} ist kein Python: Magics und ! bestehen jede Prüfung")
        problems += [
            f"{name} enthält {word}"
            for word in ("get_ipython", "NBVAL_", "filterwarnings", 'simplefilter("ignore')
            if word in cell.source
        ]
    complain(problems)


def test_cells_are_short(code):
    complain(
        [
            f"{name} hat {lines} Zeilen, erlaubt sind {MAX_CODE_LINES}"
            for name, cell, _ in code
            if (lines := sum(bool(line.strip()) for line in cell.source.splitlines()))
            > MAX_CODE_LINES
        ]
    )


def test_outputs_are_short(code):
    # Gezeigter Quelltext ist text/markdown und darf länger sein.
    complain(
        [
            f"{name} gibt {lines} Zeilen aus, erlaubt sind {MAX_OUTPUT_LINES}"
            for name, cell, _ in code
            for kind, content in texts(cell)
            if kind != "text/markdown" and (lines := len(content.splitlines())) > MAX_OUTPUT_LINES
        ]
    )


def test_outputs_do_not_depend_on_the_machine(code):
    complain(
        [
            f"{name} gibt {found.group()} aus"
            for name, cell, _ in code
            for _, content in texts(cell)
            if (found := MACHINE.search(content))
        ]
    )


def test_tags_are_known(code):
    complain(
        [
            f"{name} trägt die unbekannte Markierung {unknown}"
            for name, _, marked in code
            for unknown in sorted(marked - TAGS)
        ]
    )


def test_at_most_one_cell_in_ten_is_not_compared(code):
    ignored = [name for name, _, marked in code if IGNORED in marked and VERSIONS not in marked]
    allowed = max(1, len(code) // 10)
    assert len(ignored) <= allowed, (
        f"{len(ignored)} von {len(code)} Zellen ohne Vergleich, erlaubt sind {allowed}: {ignored}"
    )


def test_kept_outputs_belong_to_their_code(code):
    complain(
        [
            f"{name} wurde nach dem Speichern geändert: mit make save-notebooks speichern"
            for name, cell, _ in code
            if cell.metadata.get("output_of") != (digest(cell) if keeps_output(cell) else None)
        ]
    )


def test_alternative_texts_are_those_of_the_code(code):
    # Der Text steht oft in der Zelle vor dem Bild; dessen Ausgabe bliebe dann beim alten.
    nodes = [node for _, cell, _ in code for node in ast.walk(tree(cell))]
    written = {node.value for node in nodes if isinstance(getattr(node, "value", None), str)}
    parts = sorted((text for text in written if len(text) > 20), key=len, reverse=True)
    problems = []
    for name, cell, _ in code:
        for details in [
            found for output in cell.outputs for found in output.get("metadata", {}).values()
        ]:
            rest = details.get("alt", "")
            for part in parts:
                rest = rest.replace(part, "")
            if rest.strip():
                problems.append(f"{name}: Im Code steht nicht „{rest.strip()}“")
    complain(problems)


def test_only_marked_cells_raise(code):
    problems = []
    for name, cell, marked in code:
        raised = any(output.output_type == "error" for output in cell.outputs)
        if raised != ("raises-exception" in marked):
            problems.append(f"{name}: Fehler und Markierung raises-exception gehören zusammen")
    complain(problems)


def test_definitions_are_the_lesson(code):
    definitions = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    complain(
        [
            f"{name} definiert {node.name}: das gehört in ein Modul unter examples/"
            for name, cell, marked in code
            if not marked & DEFINING
            for node in ast.walk(tree(cell))
            if isinstance(node, definitions)
        ]
    )


def test_examples_are_not_imported(code):
    complain(
        [
            f"{name} importiert {module}: das Beispiel läuft als eigener Prozess"
            for name, cell, _ in code
            for node in ast.walk(tree(cell))
            for module in modules(node)
            if module.split(".")[0] == "examples"
        ]
    )


def modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_prose_comes_before_code(notebook):
    kinds = "".join(cell.cell_type[0] for cell in notebook.cells)
    assert kinds.startswith("m")
    run = re.search("c{3,}", kinds)
    assert not run, (
        f"Vor „{notebook.cells[run.start() + 2].source.splitlines()[0]}“ fehlt ein Satz: "
        "höchstens zwei Codezellen folgen aufeinander"
    )


def test_first_cell_says_what_and_why(path, notebook):
    first = notebook.cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    example = "examples/" if path.stem in WITHOUT_EXAMPLE else f"examples/{path.stem}/"
    wanted = ["Lernziele", "Dauer", "Voraussetzungen", "../book/", example]
    complain([f"In der ersten Zelle fehlt „{word}“" for word in wanted if word not in first.source])


def test_a_picture_comes_first(notebook):
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    before = source.split("\n## Ansehen")[0]
    assert re.search(r"!\[[^\]]{20,}\]\(\.\./book/_static/", before), (
        "Vor „Ansehen“ fehlt das Bild mit einer Textalternative von mindestens 20 Zeichen"
    )


def test_all_sections_are_there_in_order(notebook):
    found = [
        line.removeprefix("## ").strip()
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
        if line.startswith("## ")
    ]
    missing = [name for name in SECTIONS if name not in found and name not in OPTIONAL]
    assert not missing, f"Es fehlen die Abschnitte {missing}"
    known = [name for name in found if name in SECTIONS]
    assert known == sorted(known, key=SECTIONS.index), f"Andere Reihenfolge: {known}"


def test_exercise_has_a_hidden_solution(code):
    solutions = [(name, marked) for name, _, marked in code if "solution" in marked]
    assert solutions, "Keine Zelle trägt die Markierung solution"
    complain(
        [f"{name}: hide-cell fehlt" for name, marked in solutions if "hide-cell" not in marked]
    )


def role(cell) -> str:
    """Ein Buchstabe: Übung, Lösung, Prüfung (`check`), Text der Lösung, anderer Text, Rest."""
    if cell.cell_type == "markdown":
        return "t" if "solution" in tags(cell) else "m"
    return next((tag[0] for tag in ("exercise", "solution", "check") if tag in tags(cell)), "x")


def test_exercise_solution_and_check_follow_each_other(notebook):
    roles = "".join(map(role, notebook.cells))
    # Zwischen Übung und Prüfung bleibt der Satz vor der Prüfzelle; alles andere ist Lösung, und
    # die Fassung für Studierende lässt es weg.
    exercise = r"e[st]*s[st]*mct?"
    left = re.sub(exercise, "", roles)
    assert re.search(exercise, roles) and not set(left) & set("estc"), (
        f"Auf die Übung folgen Lösung, ein Satz und eine Prüfung (esmc); gefunden: {roles}"
    )


def test_text_of_a_solution_is_marked(notebook):
    complain(
        [
            f"Zelle „{cell.id}“: Wer mit „Lösung“ beginnt, braucht die Markierung solution"
            for cell in notebook.cells
            if cell.source.startswith("Lösung") and "solution" not in tags(cell)
        ]
    )


def test_check_speaks_german_and_has_wrong_answers(path, code):
    problems = []
    for name, cell, marked in code:
        if "check" not in marked:
            continue
        if "hide-input" not in marked:
            problems.append(f"{name}: hide-input fehlt, sonst verrät sie die Lösung")
        for node in ast.walk(tree(cell)):
            if isinstance(node, ast.Assert) and "Noch nicht: " not in ast.unparse(node.msg or node):
                problems.append(f"{name}: einem assert fehlt „Noch nicht: …“")
        if not ANSWERS.get(path.stem, {}).get(cell.id, {}).get("wrong"):
            problems.append(f"{name}: Falsche Antworten zu {cell.id} fehlen in tests/answers.yml")
    complain(problems)


def names(cell) -> tuple[set[str], set[str]]:
    """Namen, die eine Zelle liest, und solche, die sie selbst bindet."""
    read, bound = set(), set()
    for node in ast.walk(tree(cell)):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return read - set(dir(builtins)), bound


def test_nothing_needs_the_solution(code):
    # Wer die Übung offen lässt, soll trotzdem bis zum Aufräumen kommen.
    problems, known = [], set()
    for name, cell, marked in code:
        if "solution" not in marked:
            read, bound = names(cell)
            known |= bound
            problems += [f"{name} braucht aus der Lösung {missing}" for missing in read - known]
    complain(sorted(problems))


def self_test(notebook) -> list[tuple[str, list[quiz.Answer]]]:
    """Die Fragen des Selbsttests mit ihren Antworten, wie der Bau sie liest."""
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    section = re.split(r"^## ", source.split("\n## Selbsttest")[-1], flags=re.MULTILINE)[0]
    parts = re.split(r"^(?=\d\. )", section, flags=re.MULTILINE)[1:]
    questions = [part.partition("\n\n") for part in parts]
    return [(question, quiz.parse(answers)) for question, _, answers in questions]


def test_self_test_explains_every_answer(notebook):
    questions = self_test(notebook)
    assert len(questions) == 3, f"Gebraucht: drei Fragen mit Antworten, gefunden: {len(questions)}"
    problems = []
    for question, answers in questions:
        right = sum(answer.right for answer in answers)
        if not 3 <= len(answers) <= 4:
            problems.append(f"„{question}“ hat {len(answers)} Antworten, erlaubt sind 3 oder 4")
        if not 0 < right < len(answers):
            problems.append(f"„{question}“ braucht richtige und falsche Antworten")
        if len({answer.text for answer in answers}) < len(answers):
            problems.append(f"„{question}“ nennt eine Antwort zweimal")
        problems += [
            f"„{answer.text}“ ist kaum erklärt: „{answer.why}“"
            for answer in answers
            if len(answer.why) < MIN_EXPLANATION
        ]
    complain(problems)


def test_right_answers_are_not_given_away():
    questions = [answers for path in NOTEBOOKS for _, answers in self_test(read(path))]
    single = [answers for answers in questions if sum(answer.right for answer in answers) == 1]
    for count in sorted({len(answers) for answers in single}):
        places = Counter(
            [answer.right for answer in answers].index(True)
            for answers in single
            if len(answers) == count
        )
        most = 0.45 * places.total()
        assert max(places.values()) <= most, f"Die richtige steht zu oft am selben Platz: {places}"
    for pick, name in ((max, "längste"), (min, "kürzeste")):
        found = sum(pick(answers, key=lambda answer: len(answer.text)).right for answers in single)
        told = f"In {found} von {len(single)} Fragen ist die richtige die {name}"
        assert found <= 0.45 * len(single), told
    for word in ("Ja", "Nein"):
        said = [a.right for answers in questions for a in answers if re.match(rf"{word}\b", a.text)]
        assert sum(said) >= 0.1 * len(said), f"„{word}“ ist fast nie richtig"


def test_last_cell_names_the_versions(code):
    name, cell, marked = code[-1]
    assert VERSIONS in marked and cell.outputs, f"{name} soll die Versionen zeigen"
    assert [n for n, _, marked in code if VERSIONS in marked] == [name]


def test_metadata_is_known(notebook):
    wanted = kernel(notebook.metadata)
    assert {name: notebook.metadata.get(name) for name in wanted} == wanted
    unknown = set(notebook.metadata) - set(wanted) - {"exclusive", "requires", "environment"}
    assert not unknown, f"Unbekannte Angaben im Notebook: {unknown}"
    strange = set(notebook.metadata.get("requires", [])) - set(REQUIREMENTS)
    assert not strange, f"„requires“ kennt {strange} nicht"


def test_file_is_written_as_saving_writes_it(path, notebook):
    assert path.read_bytes() == text(notebook).encode(), "mit make save-notebooks speichern"
