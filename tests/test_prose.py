"""Die Sprache aller Texte: Rechtschreibung, Wörter des Glossars, Stil, ein Satz je Zeile."""

import re
import subprocess
from functools import cache

import pytest
import yaml

import needs
from texts import CODE, LEAD, ROOT, Block, all_texts, spellings

WORD_LIST = ROOT / "tests" / "prose" / "words.txt"
GLOSSARY = ROOT / "book" / "anhang" / "glossar.yml"
HUNSPELL = (
    "sudo apt install hunspell hunspell-de-de · macOS: brew install hunspell, dazu die Dateien "
    "de_DE.aff und de_DE.dic nach ~/Library/Spelling"
)
ENDINGS = r"(?:e|en|er|ern|es|n|s)?(?!\w)"
SENTENCE_END = re.compile(rf"[.!?…][“)]*\s+[„(]*[A-ZÄÖÜ{CODE}]")
# Ein Punkt hinter einer Zahl oder einem dieser Kürzel beendet keinen Satz.
NO_END = re.compile(r"(?:\b\d{1,2}|\b(?:Abs|Art|Nr|bzw|ca|etc|ggf|max|min|usw|vgl))$")
LINE_END = re.compile(rf"[.!?…:;][“)]*{LEAD}?$|{CODE}$")


# Nicht schon beim Import: Jeder Prozess von pytest importiert diese Datei, gelesen wird in einem.
@cache
def blocks() -> list[Block]:
    return list(all_texts())


@cache
def markdown() -> list[Block]:
    return [block for block in blocks() if block.kind not in ("plain", "python")]


@cache
def words() -> list[tuple[str, Block, int]]:
    """Jedes Wort mit seinem Block und der Stelle darin."""
    return [(word, block, position) for block in blocks() for word, position in block.words()]


@cache
def used_spellings() -> set[str]:
    return {form for word in {word for word, _, _ in words()} for form in spellings(word)}


# Je Regel: woran ein Verstoß zu erkennen ist, wo sie gilt und warum.
STYLE = {
    "address": (
        # Am Satzanfang kann „Sie“ auch die Mehrzahl sein; das sieht nur ein Mensch.
        re.compile(
            rf"(?<=[\w,;{CODE}] )(?:Sie|Ihnen|Ihre?[mnrs]?)\b"
            r"|\b(?:[Dd]u|[Dd]ich|[Dd]ir|[Dd]eine?[mnrs]?|[Ee]uch|[Ee]ure?[mnrs]?)\b"
        ),
        blocks,
        "Das Buch spricht niemanden an; Überschriften und Schritte stehen im Infinitiv.",
    ),
    "we": (
        re.compile(r"\b(?:[Ww]ir|[Uu]ns|[Uu]nse?re?[mnrs]?)\b"),
        blocks,
        "Das Wir der Vorlesung lässt offen, wer etwas tut.",
    ),
    "quotes": (
        re.compile(r"[„“”\"]"),
        markdown,
        "Öffnend „, schließend “; alles andere ist englisch oder gehört in `…`.",
    ),
    "dash": (
        re.compile(r"(?<=\s)-(?=\s)|--|—|\.\.\."),
        markdown,
        "Der Gedankenstrich ist – zwischen Leerzeichen, die Auslassung ist ein Zeichen: ….",
    ),
    "space": (
        re.compile(r"(?<=\S) {2,}(?=\S)| (?=[,;.:!?](?:\s|$))"),
        markdown,
        "Ein Leerzeichen genügt, vor Satzzeichen steht keines.",
    ),
    "no-break space": (
        re.compile(r"\b(?:z|d|u|i|o|v)\. ?(?:B|h|a|d|Ä|R|U)\.|(?<!\d)\d{1,3} \d{3}(?!\d)|§ \d"),
        markdown,
        "Abkürzungen, große Zahlen und Paragrafen brechen nicht um: U+202F oder ausschreiben.",
    ),
}


def complain(problems: list[str], remedy: str) -> None:
    """Nennt jede Stelle und am Ende die Abhilfe."""
    if problems:
        pytest.fail("\n".join([*problems, remedy]).replace(CODE, "`…`"), pytrace=False)


@cache
def unknown_words() -> set[str]:
    """Fragt hunspell nach allen Wörtern auf einmal."""
    program = needs.program("hunspell", HUNSPELL)
    done = subprocess.run(
        [program, "-d", "de_DE", "-i", "utf-8", "-l"],
        input="\n".join(sorted(used_spellings())),
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode:
        needs.skip_or_fail(f"Das Wörterbuch de_DE fehlt. Abhilfe: {HUNSPELL}")
    return set(done.stdout.split())


def word_list() -> list[str]:
    return WORD_LIST.read_text(encoding="utf-8").splitlines()


def test_every_page_and_notebook_is_read():
    paths = [*(ROOT / "book").rglob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    names = {path.relative_to(ROOT).as_posix() for path in paths}
    unread = names - {block.file.split(", ")[0] for block in blocks()}
    assert names and not unread, f"Ohne Text: {sorted(unread)}"


def test_words_are_spelled_right():
    wrong, known = unknown_words(), set(word_list())
    complain(
        [
            f"{block.place(position)}: {word}"
            for word, block, position in words()
            if {word, word.rstrip("-")} <= wrong and not spellings(word) & known
        ],
        f"Richtig, aber unbekannt? Dann gehört das Wort in {WORD_LIST.relative_to(ROOT)}, "
        "eines je Zeile, nach dem Alphabet. Ein Name aus dem Code steht in `…`.",
    )


def test_word_list_is_sorted_and_used():
    entries = word_list()
    twice = {entry for entry in entries if entries.count(entry) > 1}
    assert not twice, f"Doppelt: {', '.join(sorted(twice))}"
    expected = sorted(entries, key=lambda word: (word.casefold(), word))
    for entry, wanted in zip(entries, expected, strict=True):
        assert entry == wanted, f"Nach dem Alphabet steht vor „{entry}“ noch „{wanted}“"
    unused = sorted(set(entries) - used_spellings())
    assert not unused, f"Das enthält kein Text mehr: {', '.join(unused)}"


def test_words_the_glossary_forbids_do_not_appear():
    entries = yaml.safe_load(GLOSSARY.read_text(encoding="utf-8"))
    forbidden = {word: entry["term"] for entry in entries for word in entry.get("avoid", [])}
    spelled = {word: r"\s+".join(map(re.escape, word.split())) for word in forbidden}
    # Fast kein Text enthält eines davon: Nur wo alle zusammen etwas finden, wird einzeln gesucht.
    any_of = re.compile(rf"(?<!\w)(?:{'|'.join(spelled.values())}){ENDINGS}", re.IGNORECASE)
    suspects = [block for block in blocks() if any_of.search(str(block))]
    problems = []
    for word, term in forbidden.items():
        pattern = re.compile(rf"(?<!\w){spelled[word]}{ENDINGS}", re.IGNORECASE)
        problems += [
            f"{block.place(found.start())}: „{found[0]}“ heißt hier „{term}“."
            for block in suspects
            for found in pattern.finditer(str(block))
        ]
    complain(problems, "Ein Name aus einer englischen API steht in `…`; siehe glossar.yml.")


@pytest.mark.parametrize("rule", STYLE)
def test_style_is_kept(rule):
    pattern, where, reason = STYLE[rule]
    problems = []
    for block in where():
        # Richtige Anführungszeichen verschwinden, damit die falschen übrig bleiben.
        text = re.sub('„([^„“”"]*)“', r"‚\1‘", str(block))
        for found in pattern.finditer(text):
            around = text[max(0, found.start() - 20) : found.end() + 20].replace("\n", " ")
            problems.append(f"{block.place(found.start())}: „{found[0]}“ in {around!r}")
    complain(problems, reason)


def test_each_line_holds_one_sentence():
    problems = []
    for block in markdown():
        if block.kind not in ("paragraph", "list", "html"):
            continue
        text = str(block)
        problems += [
            f"{block.place(found.start())}: neue Zeile vor {text[found.end() - 1 :][:30]!r}"
            for found in SENTENCE_END.finditer(text)
            if "\n" not in found[0] and not NO_END.search(text[: found.start()])
        ]
        problems += [
            f"{block.file}, Zeile {number}: Der Satz geht weiter nach {line[-30:]!r}"
            for number, line in block.lines[:-1]
            if block.kind != "html" and not LINE_END.search(line)
        ]
    complain(problems, "Ein Satz je Zeile: So zeigt jeder Vergleich, welcher Satz sich änderte.")
