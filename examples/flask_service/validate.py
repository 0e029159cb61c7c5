"""Eine Frage von Hand prüfen: mit denselben Gründen wie das Schema, aber ohne dessen Prüfung."""

from math import inf

from examples.price_model.schema import (
    CATEGORIES,
    FEATURES,
    MAX_BATCH,
    MAX_NUMBER,
    InvalidStoneError,
    Stone,
    explain,
)


def check(payload: object) -> list[Stone]:
    """Prüft einen Stein oder eine Liste von Steinen und gibt immer eine Liste zurück.

    Bei ungültiger Eingabe entsteht `InvalidStoneError` mit allen Gründen auf einmal.
    """
    if not isinstance(payload, list):
        stones, errors = [payload], stone_errors(payload, ("stone",))
    elif not 1 <= len(payload) <= MAX_BATCH:
        stones, errors = [], [problem("too_long" if payload else "too_short", ("batch",))]
    else:
        stones = payload
        errors = [e for n, item in enumerate(payload) for e in stone_errors(item, ("batch", n))]
    if errors:
        raise InvalidStoneError(explain(errors))
    # Ohne zweite Prüfung: was hier ankommt, ist gültig.
    return [Stone.model_construct(**stone) for stone in stones]


def stone_errors(stone: object, path: tuple) -> list[dict]:
    """Sammelt alle Fehler eines Steins; `path` ist seine Stelle in der Liste."""
    if not isinstance(stone, dict):
        return [problem("model_type", path)]
    errors = []
    for name in FEATURES:
        if name not in stone:
            errors.append(problem("missing", (*path, name)))
        elif name not in CATEGORIES:
            errors += number_errors(stone[name], (*path, name))
        elif stone[name] not in CATEGORIES[name]:
            errors.append(problem("literal_error", (*path, name), ", ".join(CATEGORIES[name])))
    # Ein Tippfehler soll auffallen, statt als unbekanntes Feld zu verschwinden.
    return errors + [problem("extra_forbidden", (*path, n)) for n in stone if n not in FEATURES]


def number_errors(value: object, path: tuple) -> list[dict]:
    """Prüft eine Zahl: echt, endlich, über 0 und höchstens `MAX_NUMBER`."""
    # isinstance genügt nicht: True ist in Python auch ein int.
    if type(value) not in (int, float):
        return [problem("float_type", path)]
    # Der Vergleich ist auch für NaN falsch; json.loads liest NaN und Infinity klaglos.
    if not -inf < value < inf:
        return [problem("finite_number", path)]
    if value <= 0:
        return [problem("greater_than", path)]
    return [problem("less_than_equal", path)] if value > MAX_NUMBER else []


def problem(kind: str, path: tuple, expected: str = "") -> dict:
    """Ein Fehler in der Form, aus der `explain` Feld und deutschen Grund macht."""
    return {"type": kind, "loc": path, "ctx": {"expected": expected}}
