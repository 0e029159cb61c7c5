"""Sagt nbval, was die Markierungen dieses Buches bedeuten.

`versions` heißt: ausführen, aber nicht vergleichen. Und jede Prüfzelle (`check`) läuft vor der
Lösung im selben Kernel am Platzhalter und an den Antworten aus tests/answers.yml.
"""

from pathlib import Path

import yaml
from nbformat import from_dict
from nbval.plugin import IPyNbCell

ANSWERS = Path(__file__).resolve().parent.parent / "tests" / "answers.yml"
SAYS = "Noch nicht: "


class WrongAnswer(IPyNbCell):
    """Gelingt, wenn die Prüfzelle mit einem verständlichen Satz scheitert."""

    def runtest(self) -> None:
        """Führt sie aus und liest, was sie sagt."""
        super().runtest()
        errors = [output for output in self.test_outputs if output.output_type == "error"]
        said = f"{errors[0].ename}: {errors[0].evalue}" if errors else "nichts"
        if not said.startswith(f"{AssertionError.__name__}: {SAYS}"):
            self.raise_cell_error(f"Erwartet war „{SAYS}…“, die Prüfzelle sagte: {said}")


def marked(item: IPyNbCell, tag: str) -> bool:
    """Sagt, ob die Zelle eine Markierung trägt."""
    return tag in item.cell.metadata.get("tags", [])


def attempts(exercise: IPyNbCell, check: IPyNbCell, answers: dict) -> list[IPyNbCell]:
    """Baut aus Platzhalter, Antwort und Prüfzelle je eine Zelle, die noch vor der Übung läuft."""
    made = []
    wrong = {f"falsch {n}": text for n, text in enumerate(answers.get("wrong", []), 1)}
    right = {f"richtig {n}": text for n, text in enumerate(answers.get("right", []), 1)}
    wrong["Platzhalter"] = ""
    for name, answer in {**wrong, **right}.items():
        source = "\n\n".join([exercise.cell.source, answer, check.cell.source])
        item = (WrongAnswer if name in wrong else IPyNbCell).from_parent(
            check.parent,
            name=f"Cell {check.cell_num} ({name})",
            cell_num=check.cell_num,
            cell=from_dict({**check.cell, "source": source}),
            options={**check.options, "skip": False, "check_exception": name in wrong},
        )
        item.options["check"] &= name in right
        made.append(item)
    return made


def pytest_collection_modifyitems(items: list) -> None:
    """Nimmt Versionen vom Vergleich aus und stellt vor jede Übung, was die Prüfzelle aushält."""
    checks = [item for item in items if marked(item, "check")]
    answers = yaml.safe_load(ANSWERS.read_text(encoding="utf-8")) if checks else {}
    for check in checks:
        before = items[: items.index(check)]
        exercise = next(
            item
            for item in reversed(before)
            if marked(item, "exercise") and item.parent is check.parent
        )
        found = answers.get(check.path.stem, {}).get(check.cell.id, {})
        place = items.index(exercise)
        items[place:place] = attempts(exercise, check, found)
    for item in items:
        if marked(item, "versions"):
            item.options["check"] = False
