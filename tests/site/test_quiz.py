"""Der Selbsttest in einem echten Chromium: mit der Tastatur, angesagt, ohne Skript, gedruckt."""

from pathlib import Path

import pytest

# Die ersten beiden Fragen haben eine richtige Antwort, die dritte zwei.
PAGE = "notebooks/docker_image"
ANSWERS = (3, 4, 4)
VIOLATIONS_ONLY = {"resultTypes": ["violations"]}
SHOWN = "() => [...document.querySelectorAll('.quiz-why')].filter(w => w.innerText).length"


@pytest.fixture
def open_page(browser, base_url):
    """Öffnet das Kapitel in einem frischen Fenster, auf Wunsch ohne JavaScript."""
    contexts = []

    def opened(**options):
        contexts.append(browser.new_context(locale="de-DE", **options))
        page = contexts[-1].new_page()
        page.goto(f"{base_url}/{PAGE}.html", wait_until="load")
        if options.get("java_script_enabled", True):
            page.wait_for_function("() => document.querySelectorAll('[data-live]').length === 3")
        return page

    yield opened
    for context in contexts:
        context.close()


def answer(page, question: int, *choices: int) -> None:
    """Wählt Antworten, gezählt ab 1, und drückt auf den Knopf."""
    form = page.locator("form.quiz").nth(question - 1)
    for choice in choices:
        form.locator("input").nth(choice - 1).check()
    form.locator("button").click()


def explanation(page, question: int, choice: int) -> str:
    form = page.locator("form.quiz").nth(question - 1)
    return form.locator(".quiz-why").nth(choice - 1).inner_text()


def result(page, question: int) -> str:
    return page.locator("form.quiz").nth(question - 1).locator(".quiz-result").inner_text()


def announced(page) -> list[str]:
    """Was ein Vorleseprogramm in den Bereichen findet, deren Änderung es ansagt."""
    client = page.context.new_cdp_session(page)
    nodes = client.send("Accessibility.getFullAXTree")["nodes"]
    by_id = {node["nodeId"]: node for node in nodes}

    def text(node: dict) -> str:
        if node.get("role", {}).get("value") == "StaticText":
            return node["name"]["value"]
        return "".join(text(by_id[child]) for child in node["childIds"] if child in by_id)

    regions = [node for node in nodes if node.get("role", {}).get("value") == "status"]
    return [text(node) for node in regions if not node["ignored"]]


def test_every_chapter_asks_three_questions(site, toc_pages):
    chapters = [name for name in toc_pages if Path(f"{name}.ipynb").exists()]
    assert chapters
    for name in chapters:
        html = (site / f"{name}.html").read_text(encoding="utf-8")
        found = [html.count(part) for part in ('<form class="quiz"', "<legend>", "_static/quiz.js")]
        assert found == [3, 3, 1], f"{name}: {found}"


def test_keyboard_alone_answers_and_the_answer_is_announced(open_page):
    page = open_page()
    # Die Bereiche sind schon da, bevor etwas in ihnen steht; sonst sagt sie niemand an.
    assert announced(page) == [""] * (sum(ANSWERS) + len(ANSWERS))
    # Wie nach einem Klick auf „Selbsttest“ im Inhaltsverzeichnis der Seite.
    page.evaluate("() => (location.hash = 'selbsttest')")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.id") == "quiz-1a"
    for key in ("Space", "ArrowDown", "Tab", "Enter"):
        page.keyboard.press(key)
    said = [text for text in announced(page) if text]
    assert said[0].startswith("Falsch: So wäre es in der anderen Reihenfolge")
    assert said[1:] == ["Noch nicht gelöst."]
    # Zurück zu den Antworten und eine hinauf; die Eingabetaste prüft auch von dort.
    for key in ("Shift+Tab", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    said = [text for text in announced(page) if text]
    assert said[0].startswith("Richtig: Docker baut ab der ersten geänderten Layer")
    assert said[1:] == ["Gelöst: 1 von 3 Fragen."]


def test_each_chosen_answer_is_explained(open_page):
    page = open_page()
    answer(page, 2)
    assert result(page, 2) == "Noch ist keine Antwort gewählt."
    for choice, verdict in enumerate(("Falsch", "Falsch", "Richtig", "Falsch"), start=1):
        answer(page, 2, choice)
        assert explanation(page, 2, choice).startswith(f"{verdict}: ")
        assert page.evaluate(SHOWN) == 1


def test_several_right_answers_are_all_wanted(open_page):
    page = open_page()
    assert "Mehrere Antworten sind richtig." in page.locator("form.quiz legend").nth(2).inner_text()
    answer(page, 3, 2)
    assert result(page, 3) == "Noch nicht gelöst: Es fehlt eine richtige Antwort."
    answer(page, 3, 3, 4)
    assert result(page, 3) == "Noch nicht gelöst."
    page.locator("form.quiz").nth(2).locator("input").nth(3).uncheck()
    answer(page, 3)
    answer(page, 1, 1)
    answer(page, 2, 3)
    assert (result(page, 3), result(page, 2)) == (
        "Gelöst: 1 von 3 Fragen.",
        "Gelöst: 3 von 3 Fragen.",
    )
    # Ohne Antwort ist auch eine gelöste Frage wieder offen.
    for number in (1, 2, 3):
        page.locator("form.quiz").nth(2).locator("input").nth(number).uncheck()
    answer(page, 3)
    answer(page, 1, 1)
    assert result(page, 1) == "Gelöst: 2 von 3 Fragen."


def test_lost_script_leaves_no_button_that_forgets_the_answer(open_page):
    page = open_page()
    page.route("**/quiz.js", lambda route: route.abort())
    page.reload()
    form = page.locator("form.quiz").first
    form.locator("input").first.check()
    assert not form.locator("button").is_visible()
    assert form.locator(".quiz-why").first.is_visible()
    form.locator("input").first.press("Enter")
    assert "?" not in page.url and form.locator("input").first.is_checked()


def test_without_javascript_choosing_shows_the_explanation(open_page):
    page = open_page(java_script_enabled=False)
    form = page.locator("form.quiz").first
    assert form.locator("button").is_hidden()
    assert form.locator(".quiz-why:visible").count() == 0
    form.locator("label").nth(1).click()
    (shown,) = form.locator(".quiz-why:visible").all_inner_texts()
    assert shown.startswith("Falsch: So wäre es")


@pytest.mark.parametrize("javascript", [True, False])
def test_print_shows_every_explanation(open_page, javascript):
    page = open_page(java_script_enabled=javascript)
    if javascript:
        # Der Zähler hängt hinter dem Skript der Seite und läuft deshalb nach ihm.
        page.evaluate(
            f"() => addEventListener('beforeprint', () => (window.printed = ({SHOWN})()))"
        )
        page.pdf()
        assert page.evaluate("() => window.printed") == sum(ANSWERS)
        assert page.evaluate(SHOWN) == 0
    else:
        page.emulate_media(media="print")
        assert page.locator(".quiz-why:visible").count() == sum(ANSWERS)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_answered_questions_have_no_barriers(open_page, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(color_scheme=scheme, viewport={"width": 390, "height": 900})
    answer(page, 1, 2)
    answer(page, 2, 3)
    answer(page, 3, 1, 2)
    violations = (
        Axe().run(page, context="form.quiz", options=VIOLATIONS_ONLY).response["violations"]
    )
    assert not violations, violations
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
