"""Der Helfer `worker`: Wer nicht antwortet, wird genannt."""

import sys

import pytest

from worker import worker

ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"


def test_same_process_answers_every_question():
    with worker([sys.executable, "-c", ECHO], 60) as ask:
        assert [ask(question) for question in ("eins", [2])] == ["eins", [2]]


@pytest.mark.parametrize("code", ["input()", "import time; time.sleep(60)"])
def test_question_without_answer_is_named(code):
    with (
        worker([sys.executable, "-c", code], 1) as ask,
        pytest.raises(AssertionError, match="Keine Antwort.*spätestens nach 1 s: fertig"),
    ):
        ask("fertig?")
