"""Der Selbsttest außerhalb des Browsers: was eine Antwort ist und wie PDF und E-Book sie zeigen."""

import subprocess
import sys

import pytest
import quiz

RIGHT = "<details><summary>Ja, mit <code>a &lt; b</code></summary>\nRichtig: So ist es.</details>"
WRONG = "<details><summary>Nein</summary>\nFalsch: Das\nstimmt nicht.</details>"
QUESTION = f"## Selbsttest\n\n1. Stimmt\n   das?\n\n{WRONG}\n{RIGHT}\n"
TEXT = """1. Stimmt das?

   1. Nein

   2. Ja, mit "a < b"

2. Wirklich? *Mehrere Antworten sind richtig.*

   1. Nein

   2. Ja, mit "a < b"

   3. Ja, mit "a < b"

-[ Antworten ]-

1. 1. Falsch: Das stimmt nicht.

   2. Richtig: So ist es.

2. 1. Falsch: Das stimmt nicht.

   2. Richtig: So ist es.

   3. Richtig: So ist es."""


def build(folder, builder: str, text: str) -> subprocess.CompletedProcess:
    """Baut eine Seite mit nichts als dem Parser des Buches und der Erweiterung."""
    folder.joinpath("index.md").write_text(f"# Kapitel\n\n{text}", encoding="utf-8")
    options = ("-C", "-q", "-W", "-D", "extensions=myst_parser,quiz", "-D", "language=de")
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "-b", builder, folder, folder / "out"],
        cwd=quiz.__file__.removesuffix("quiz.py"),
        capture_output=True,
        encoding="utf-8",
    )


def test_answers_are_read_with_verdict_and_explanation():
    wrong, right = quiz.parse(f"{WRONG}\n{RIGHT}")
    assert (wrong.text, wrong.why, wrong.right) == ("Nein", "Falsch: Das\nstimmt nicht.", False)
    assert (right.text, right.right) == ("Ja, mit <code>a &lt; b</code>", True)


@pytest.mark.parametrize(
    ("html", "reason"),
    [
        (WRONG.replace("Falsch: ", ""), "Keine Antwort"),
        (WRONG + "Noch ein Satz.", "Keine Antwort .* 'Noch ein Satz"),
        (WRONG.replace("Nein", "<b>Nein</b>"), "<b> in der Antwort .* nur <code>"),
    ],
)
def test_what_is_no_answer_is_refused(html, reason):
    with pytest.raises(ValueError, match=reason):
        quiz.parse(html)


def test_other_formats_list_the_explanations_behind_the_last_question(tmp_path):
    done = build(tmp_path, "text", f"{QUESTION}\n2. Wirklich?\n\n{WRONG}\n{RIGHT}\n{RIGHT}\n")
    assert done.returncode == 0, done.stderr
    assert TEXT in (tmp_path / "out" / "index.txt").read_text(encoding="utf-8")


def test_answers_without_a_question_break_the_build(tmp_path):
    done = build(tmp_path, "text", f"## Selbsttest\n\nStimmt das?\n\n{WRONG}\n")
    assert done.returncode and "fehlt die nummerierte Frage" in done.stderr
