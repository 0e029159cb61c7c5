"""Der Selbsttest der Kapitel: aus aufklappbaren Antworten werden im Buch Auswahlfragen.

Im Notebook ist eine Frage ein nummerierter Punkt, jede Antwort darunter ein `<details>`. So lesen
sie JupyterLab und GitHub. Auf der Seite werden daraus Auswahlfelder, in jeder anderen
Form (PDF, E-Book) eine Liste, und die Erklärungen stehen erst hinter der letzten Frage.
"""

import re
from dataclasses import dataclass
from html import unescape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

HEADING = "Selbsttest"
SEVERAL = "Mehrere Antworten sind richtig."
ANSWER = re.compile(
    r"<details><summary>(?P<text>.+?)</summary>\s*"
    r"(?P<why>(?P<verdict>Richtig|Falsch): .+?)</details>",
    re.DOTALL,
)
# Andere Auszeichnung als Code ginge in PDF und E-Book verloren.
INLINE = re.compile(r"<code>(.*?)</code>", re.DOTALL)
TAG = re.compile(r"</?\w[^>]*>")
logger = logging.getLogger(__name__)


@dataclass
class Answer:
    """Eine Antwort mit ihrer Erklärung, beide als HTML mit höchstens `<code>`."""

    text: str
    why: str
    right: bool


def parse(html: str) -> list[Answer]:
    """Liest die Antworten einer Frage; ValueError nennt, was keine ist."""
    if left := ANSWER.sub("", html).strip():
        raise ValueError(f"Keine Antwort mit „Richtig: …“ oder „Falsch: …“: {left[:80]!r}")
    answers = [
        Answer(found["text"], found["why"], found["verdict"] == "Richtig")
        for found in ANSWER.finditer(html)
    ]
    for answer in answers:
        if tag := TAG.search(INLINE.sub("", answer.text + answer.why)):
            raise ValueError(f"{tag[0]} in der Antwort {answer.text!r}: erlaubt ist nur <code>")
    return answers


def inline(html: str) -> list[nodes.Node]:
    """Macht aus Text mit `<code>` Knoten, die jede Ausgabeform kennt."""
    # Beim Teilen an einer Gruppe steht an jeder ungeraden Stelle Code.
    parts = [unescape(part) for part in INLINE.split(html)]
    return [nodes.literal(p, p) if n % 2 else nodes.Text(p) for n, p in enumerate(parts) if p]


class ReadQuestions(SphinxTransform):
    """Fasst Frage und Antworten zusammen; was keine Frage ist, meldet der Bau."""

    default_priority = 400

    def apply(self) -> None:
        """Ersetzt je Frage die nummerierte Liste und das HTML dahinter."""
        for section in list(self.document.findall(nodes.section)):
            if section[0].astext() == HEADING:
                # Ist diese Datei neuer als die Seite, entsteht die Seite neu.
                self.document.settings.env.note_dependency(__file__)
                self.read(section)

    def read(self, section: nodes.section) -> None:
        """Liest einen Abschnitt „Selbsttest“."""
        for raw in [node for node in section if isinstance(node, nodes.raw)]:
            before = section[section.index(raw) - 1]
            if not isinstance(before, nodes.enumerated_list) or len(before) != 1:
                logger.warning("Vor den Antworten fehlt die nummerierte Frage", location=raw)
                continue
            try:
                answers = parse(raw.astext())
            except ValueError as error:
                logger.warning(str(error), location=raw)
                continue
            items = [
                nodes.list_item(
                    "",
                    nodes.paragraph("", "", *inline(answer.text)),
                    nodes.paragraph("", "", *inline(answer.why)),
                    right=answer.right,
                )
                for answer in answers
            ]
            before[0].append(
                nodes.enumerated_list("", *items, enumtype="loweralpha", prefix="", suffix=")")
            )
            before["classes"].append("quiz")
            section.remove(raw)


class WriteQuestions(SphinxPostTransform):
    """Schreibt die Auswahlfelder um Fragen und Antworten, nur auf den Seiten im Browser."""

    default_priority = 400
    builders = ("html",)

    def run(self, **kwargs: object) -> None:
        """Ersetzt jede Frage; book/_static/quiz.js macht sie lebendig."""
        lists = [n for n in self.document.findall(nodes.enumerated_list) if "quiz" in n["classes"]]
        for number, question in enumerate(lists, start=1):
            parts = list(self.write(number, question[0]))
            if number == len(lists):
                root = "../" * self.env.docname.count("/")
                parts.append(html(f'<script type="module" src="{root}_static/quiz.js"></script>'))
            question["classes"].clear()  # sonst bekäme sie das erste Stück
            question.replace_self(parts)

    def write(self, number: int, item: nodes.list_item):
        """Liefert eine Frage als Stücke von HTML, dazwischen die Texte."""
        *texts, answers = item.children
        several = sum(answer["right"] for answer in answers) > 1
        kind = "checkbox" if several else "radio"
        yield html(f'<form class="quiz" autocomplete="off"><fieldset><legend>{number}. ')
        for text in texts:
            yield from text.children
        if several:
            yield html(f' <span class="quiz-hint">{SEVERAL}</span>')
        yield html("</legend>")
        for letter, answer in zip("abcd", answers, strict=False):
            name = f"quiz-{number}"
            value = "right" if answer["right"] else "wrong"
            yield html(
                f'<div class="quiz-answer"><input type="{kind}" id="{name}{letter}" name="{name}" '
                f'value="{value}"><label for="{name}{letter}">'
            )
            yield from answer[0].children
            yield html('</label><p class="quiz-why" role="status">')
            yield from answer[1].children
            yield html("</p></div>")
        yield html(
            '<p class="js-only"><button type="submit" disabled>Antwort prüfen</button></p>'
            '<p class="quiz-result" role="status"></p></fieldset></form>'
        )


class PrintQuestions(SphinxPostTransform):
    """Trennt, wo nichts aufklappt, die Fragen von den Erklärungen: Sonst sähe sie jeder sofort."""

    default_priority = 400

    def is_supported(self) -> bool:
        """Überall, wo keine Auswahlfelder stehen."""
        return self.app.builder.name not in WriteQuestions.builders

    def run(self, **kwargs: object) -> None:
        """Macht aus den Fragen eine Liste und hängt die Erklärungen als zweite an."""
        lists = [n for n in self.document.findall(nodes.enumerated_list) if "quiz" in n["classes"]]
        if not lists:
            return
        questions, explained = lists[0], nodes.enumerated_list(enumtype="arabic", suffix=".")
        for question in lists:
            *_, text, answers = question[0].children
            if sum(answer["right"] for answer in answers) > 1:
                text += [nodes.Text(" "), nodes.emphasis("", SEVERAL)]
            reasons = answers.copy()
            for answer in answers:
                reasons += nodes.list_item("", answer.pop())
            explained += nodes.list_item("", reasons)
            if question is not questions:
                questions += question.children
                question.parent.remove(question)
        for part in (nodes.rubric("", "Antworten"), explained):
            questions.parent.append(part)


def html(text: str) -> nodes.raw:
    """Ein Stück HTML."""
    return nodes.raw("", text, format="html")


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Erweiterung an."""
    app.add_transform(ReadQuestions)
    app.add_post_transform(WriteQuestions)
    app.add_post_transform(PrintQuestions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
