"""Jede Variante beantwortet dieselben Fragen gleich und lehnt dieselben ab."""

import functools
import json
import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import contract
from contract import (
    HTTP_VARIANTS,
    INVALID,
    INVALID_BODIES,
    NOT_FINITE,
    PLATFORMS,
    VALID,
    VARIANTS,
    Rejected,
)
from examples.price_model.schema import CATEGORIES, FEATURES

TOLERANCE_USD = 0.05
PROPERTIES = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def parameters(variants: Iterable[str]) -> list:
    """Die Varianten als Parameter, mit der Markierung, wo der Dienst außerhalb läuft."""
    marks = dict.fromkeys(contract.OUTSIDE, pytest.mark.outside)
    return [pytest.param(name, marks=marks.get(name, ())) for name in variants]


@pytest.fixture(scope="module", params=parameters(VARIANTS))
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def platform_of():
    """Startet die Plattform eines Kapitels, wenn es eine hat; sie bleibt bis zum nächsten."""
    running = {}
    with ExitStack() as stack:

        def platform(slug: str) -> object:
            if slug not in running:
                running.clear()
                stack.close()
                running[slug] = stack.enter_context(PLATFORMS.get(slug, nullcontext)())
            return running[slug]

        yield platform


@pytest.fixture(scope="module")
def ask(variant, platform_of):
    slug = variant.split()[0]
    started = nullcontext(platform_of(slug))
    with mock.patch.dict(PLATFORMS, {slug: lambda: started}), VARIANTS[variant]() as ask:
        yield ask


@pytest.fixture(scope="module")
def reference(variant, ask):
    return contract.REFERENCES.get(variant, contract.bare_model)()


# Nur diese nehmen auch kaputte Körper an; derselbe Dienst beantwortet beide Gruppen von Fragen.
over_http = pytest.mark.parametrize(
    "variant", parameters(HTTP_VARIANTS), indirect=True, scope="module"
)


@pytest.mark.parametrize("name", VALID)
def test_valid_question_gets_the_price_of_the_bare_model(ask, reference, name):
    expected, model_version = reference(contract.as_list(VALID[name]))
    prices, version = ask(VALID[name])
    assert prices == pytest.approx(expected, abs=TOLERANCE_USD)
    assert version == model_version


@pytest.mark.parametrize("name", [*INVALID, *NOT_FINITE])
def test_invalid_question_is_rejected_with_field_and_reason(ask, name):
    payload, field = (INVALID | NOT_FINITE)[name]
    with pytest.raises(Rejected) as rejected:
        ask(payload)
    assert field in dict(rejected.value.problems)
    assert rejected.value.status in (None, 422)
    assert_polite(rejected.value)


@over_http
@pytest.mark.parametrize("name", INVALID_BODIES)
def test_invalid_body_is_rejected_with_its_status(ask, name):
    body, status = INVALID_BODIES[name]
    with pytest.raises(Rejected) as rejected:
        ask(body)
    assert rejected.value.status == status
    assert_polite(rejected.value)


def assert_polite(rejected: Rejected) -> None:
    """Kein Traceback, keine englische Meldung: mindestens ein Grund, jeder ein deutscher Satz."""
    assert rejected.problems
    for _, reason in rejected.problems:
        assert reason.endswith(".") and "Traceback" not in reason
        assert reason.split()[0] in ("Das", "Dieses", "Hier", "Die", "Erlaubt", "Erwartet", "Der")


def valid(payload: object) -> bool:
    """Die Regeln des Vertrags noch einmal von Hand, damit sich kein Fehler selbst bestätigt."""
    if isinstance(payload, list):
        return 1 <= len(payload) <= contract.MAX_BATCH and all(
            isinstance(item, dict) and valid(item) for item in payload
        )
    if not isinstance(payload, dict) or set(payload) != set(FEATURES):
        return False
    return all(
        value in CATEGORIES[name]
        if name in CATEGORIES
        else type(value) in (int, float) and math.isfinite(value) and 0 < value <= 1000
        for name, value in payload.items()
    )


NUMBERS = st.one_of(
    st.floats(min_value=0, max_value=1000, exclude_min=True), st.integers(1, 1000), st.floats()
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
STONES = st.fixed_dictionaries(
    {
        name: st.sampled_from(CATEGORIES[name]) if name in CATEGORIES else NUMBERS
        for name in FEATURES
    }
)
# Fast gültig: ein Feld wird durch irgendetwas ersetzt, entfernt oder umbenannt.
MUTANTS = st.builds(
    lambda stone, name, other, value: (
        {k: v for k, v in stone.items() if k != name} | {other: value}
    ),
    STONES,
    st.sampled_from(FEATURES),
    st.sampled_from(FEATURES) | st.text(),
    ANYTHING,
)
QUESTIONS = STONES | MUTANTS | st.lists(STONES | MUTANTS, max_size=3) | ANYTHING


BODIES = st.binary() | ANYTHING.map(lambda value: json.dumps(value).encode()[:-1])


@functools.cache
def drawn(strategy: st.SearchStrategy) -> list:
    """Die Fragen für alle Varianten, einmal gezogen: Das dauert länger als manche Antwort."""
    found = []

    @PROPERTIES
    @given(strategy)
    def collect(question: object) -> None:
        found.append(question)

    collect()
    # Manche kommen mehrmals; `repr` unterscheidet auch 1, 1.0 und True.
    return list({repr(question): question for question in found}.values())


@contextmanager
def naming(question: object) -> Iterator[None]:
    """Nennt bei jedem Fehler die Frage, an der es lag."""
    try:
        yield
    except Exception as error:
        error.add_note(f"Die Frage: {question!r}")
        raise


def test_no_question_gets_a_price_it_should_not(ask):
    for payload in drawn(QUESTIONS):
        with naming(payload):
            try:
                prices, _ = ask(payload)
            except Rejected as rejected:
                assert not valid(payload)
                assert_polite(rejected)
            else:
                assert valid(payload)
                assert all(math.isfinite(price) for price in prices)


@over_http
def test_no_body_breaks_the_service(ask):
    for body in drawn(BODIES):
        with naming(body):
            try:
                ask(body)
            except Rejected as rejected:
                assert rejected.status in (400, 413, 422)
            else:
                assert valid(json.loads(body))
