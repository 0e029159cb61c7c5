"""Die Suche führt mit Fragen, wie Lernende sie stellen, zuerst zum richtigen Kapitel."""

import unicodedata
from collections.abc import Iterator

import pytest

QUESTIONS = {
    "Was ist eigentlich ein Port?": "book/grundlagen",
    "Welcher Ansatz passt zu meinem Projekt?": "book/deployment",
    "Mein Modell Freunden im Browser zeigen, mit Passwort": "notebooks/gradio_app",
    "Streamlit lädt das Modell bei jedem Klick neu": "notebooks/streamlit_app",
    "Warum soll debug=True nicht ins Internet?": "notebooks/flask_service",
    "gunicorn Worker brauchen zu viel Arbeitsspeicher": "notebooks/flask_service",
    "async def oder nur def?": "notebooks/fastapi_service",
    "API-Key für meinen Endpunkt": "notebooks/fastapi_service",
    "Muss der Encoder mit in die Datei?": "notebooks/joblib_model",
    "Warum ist pickle gefährlich?": "notebooks/pickle_model",
    "Modell ohne scikit-learn ausführen": "notebooks/onnx_model",
    "Wie exportiere ich ein Keras-Netz?": "notebooks/tensorflow_savedmodel",
    "Demo kostenlos bei Hugging Face hosten": "notebooks/huggingface_space",
    "AWS Rechnung: Endpunkt löschen": "notebooks/sagemaker_endpoint",
    "Google Cloud: Verkehr auf zwei Versionen aufteilen": "notebooks/vertex_ai_endpoint",
    "Was gehört in score.py?": "notebooks/azure_ml_endpoint",
    "Docker-Image ist viel zu gross": "notebooks/docker_image",
    "localhost geht zwischen zwei Containern nicht": "notebooks/compose_stack",
    "CrashLoopBackOff, was tun?": "notebooks/kubernetes_cluster",
    "Wie viele Anfragen pro Sekunde schafft mein Server?": "notebooks/load_test",
    "Wie viele Daten braucht ein A/B-Test?": "notebooks/ab_test",
    "Ein Server ist langsam, wohin mit den Anfragen?": "notebooks/load_balancing",
    "Pods automatisch vermehren": "notebooks/auto_scaling",
    "Darf ich Kundennummern mitloggen?": "notebooks/service_logging",
    "Wie merke ich, dass sich meine Daten verändert haben?": "notebooks/drift_detection",
    "Wohin mit großen Dateien, die nicht in Git passen?": "notebooks/versioning_git_dvc",
    "Hyperparameter vieler Laeufe vergleichen": "notebooks/experiment_tracking_mlflow",
    "wandb ohne Internet benutzen": "notebooks/experiment_tracking_wandb",
    "Modell im laufenden Betrieb tauschen, ohne Neustart": "notebooks/model_registry",
    "Github Actions auf dem eigenen Laptop ausprobieren": "notebooks/ci_cd_pipeline",
    "Wann soll mich Promethues nachts wecken?": "notebooks/monitoring_alerting",
    "Fehlermeldung am richtigen Eingabefeld anzeigen": "notebooks/gradio_app",
    "mein streamlit skript läuft dauernd von vorne": "notebooks/streamlit_app",
    "JSON von Hand prüfen": "notebooks/flask_service",
    "Swagger Dokumentation ohne Netz": "notebooks/fastapi_service",
    "Modell mit alter scikit-learn Version laden": "notebooks/joblib_model",
    "Kann eine Modelldatei Code ausführen?": "notebooks/pickle_model",
    "Preise weichen nach der Umwandlung ab": "notebooks/onnx_model",
    "Vorverarbeitung in den Graphen einbauen": "notebooks/tensorflow_savedmodel",
    "Space startet nicht": "notebooks/huggingface_space",
    "Welche Rechte braucht mein Benutzer bei Amazon?": "notebooks/sagemaker_endpoint",
    "Dienstkonto mit wenig Rechten": "notebooks/vertex_ai_endpoint",
    "Spiegelverkehr einrichten": "notebooks/azure_ml_endpoint",
    "Passwort aus Versehen im Image": "notebooks/docker_image",
    "drei Replikate mit docker compose starten": "notebooks/compose_stack",
    "Wann ist ein Pod bereit?": "notebooks/kubernetes_cluster",
    "Latenz richtig messen": "notebooks/load_test",
    "Ergebnis ist nicht signifikant": "notebooks/ab_test",
    "Was passiert, wenn ein Backend stirbt?": "notebooks/load_balancing",
    "Warum pendelt die Zahl der Replikate?": "notebooks/auto_scaling",
    "Vorhersage von gestern nachvollziehen": "notebooks/service_logging",
    "Kolmogorow-Smirnow oder PSI": "notebooks/drift_detection",
    "altes Modell bitgenau neu trainieren": "notebooks/versioning_git_dvc",
    "Lernkurven speichern": "notebooks/experiment_tracking_mlflow",
    "Was lädt W&B alles hoch?": "notebooks/experiment_tracking_wandb",
    "Wer hat diese Modellversion freigegeben?": "notebooks/model_registry",
    "schlechtes Modell vor dem Ausrollen stoppen": "notebooks/ci_cd_pipeline",
    "Zu viele Alarme auf einmal": "notebooks/monitoring_alerting",
    "ein ganzes Jahr Betrieb simulieren": "notebooks/end_to_end",
    "Statuscode 404 oder 500?": "book/grundlagen",
    "Address already in use": "book/grundlagen",
    "Wie lange dauert der Kurs?": "book/lernpfad",
    "Modell auf dem Handy": "notebooks/tensorflow_savedmodel",
    "Authentifizierung": "notebooks/fastapi_service",
    "Lastausgleich": "notebooks/load_balancing",
    "Welches Format zum Speichern nehmen?": "book/persistenz",
}
VIOLATIONS_ONLY = {"resultTypes": ["violations"]}
FIRST = "#search-results li > a:first-child"


@pytest.fixture(scope="module")
def tab(browser, base_url) -> Iterator:
    """Eine offene Suchseite für alle Fragen, mit schmalem Fenster."""
    context = browser.new_context(viewport={"width": 390, "height": 800}, locale="de-DE")
    page = context.new_page()
    page.goto(f"{base_url}/search.html")
    yield page
    context.close()


def ask(tab, question: str) -> list[str]:
    """Stellt eine Frage mit der Tastatur und gibt die Adressen der Treffer zurück."""
    tab.locator("#search-query").fill(question)
    tab.locator("#search-query").press("Enter")
    typed = unicodedata.normalize("NFC", question)
    tab.wait_for_function("q => document.documentElement.dataset.searched === q", arg=typed)
    return tab.locator(FIRST).evaluate_all("all => all.map(a => a.pathname)")


def test_every_question_leads_to_its_chapter(tab, toc_pages):
    assert set(QUESTIONS.values()) <= set(toc_pages)
    wrong = []
    for question, page in QUESTIONS.items():
        found = ask(tab, question)
        if found[:1] != [f"/{page}.html"]:
            wrong.append(f"{question} → {found[:3]} statt {page}")
    assert not wrong, "\n".join(wrong)


def test_questions_cover_every_notebook(toc_pages):
    notebooks = {page for page in toc_pages if page.startswith("notebooks/")}
    missing = notebooks - set(QUESTIONS.values())
    assert not missing, f"Keine Frage führt zu {sorted(missing)}"


@pytest.mark.parametrize(
    ("typed", "page"),
    [
        ("Kubernets", "notebooks/kubernetes_cluster"),  # vertippt
        ("Dokcer", "notebooks/docker_image"),  # vertauscht
        ("Laeufe vergleichen", "notebooks/experiment_tracking_mlflow"),  # ohne Umlaute
        ("InconsistentVersionWarning", "notebooks/joblib_model"),  # eine Meldung
        ("KOVARIATENDRIFT", "notebooks/drift_detection"),
        ("U\u0308berwachung mit Prometheus", "notebooks/monitoring_alerting"),  # aus einem PDF
        ("Dockerimage", "notebooks/docker_image"),  # im Buch mit Bindestrich
        ("Loadbalancer", "notebooks/load_balancing"),
        ("Loadtest", "notebooks/load_test"),
    ],
)
def test_spelling_does_not_matter(tab, typed, page):
    assert ask(tab, typed)[:1] == [f"/{page}.html"]


def test_inflected_words_find_the_same(tab):
    assert ask(tab, "neue") == ask(tab, "neuen") != []


def test_result_names_chapter_and_shows_where(tab):
    ask(tab, "Wie viele Daten braucht ein A/B-Test?")
    first = tab.locator("#search-results li").first
    assert first.locator("a").first.inner_text().startswith("A/B-Test")
    assert first.locator("mark").count() >= 1
    assert len(first.locator("p").inner_text()) > 80
    assert tab.locator("#search-status").inner_text().endswith(":")


def test_no_result_says_what_helps(tab):
    assert ask(tab, "xqzvwk") == []
    assert "Nichts gefunden zu „xqzvwk“. Andere Wörter helfen" in tab.inner_text("#search-status")


def test_results_are_accessible(tab):
    from axe_playwright_python.sync_playwright import Axe

    for question in ("Warum ist pickle gefährlich?", "xqzvwk"):
        ask(tab, question)
        found = Axe().run(tab, options=VIOLATIONS_ONLY).response["violations"]
        assert not found, [violation["id"] for violation in found]
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_keyboard_reaches_the_first_result(tab):
    ask(tab, "Warum ist pickle gefährlich?")
    tab.locator("#search-query").press("Tab")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.pathname") == "/notebooks/pickle_model.html"
