"""Die Frage, die jeder Dienst des Buches beantwortet: ein Stein oder eine Liste."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
)

MAX_BATCH = 1000
MAX_BODY_BYTES = 256 * 1024
MAX_NUMBER = 1000
MAX_PROBLEMS = 20

Cut = Literal["Fair", "Good", "Very Good", "Premium", "Ideal"]
Color = Literal["J", "I", "H", "G", "F", "E", "D"]
Clarity = Literal["I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"]
Number = Annotated[float, Field(gt=0, le=MAX_NUMBER, allow_inf_nan=False)]


class Stone(BaseModel):
    """Ein Stein mit den neun Merkmalen, auf denen das Modell trainiert ist."""

    # strict: "0.7" und true sind keine Zahlen; forbid: ein Tippfehler fällt auf.
    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={
            "example": {
                "carat": 0.7,
                "cut": "Ideal",
                "color": "E",
                "clarity": "VS2",
                "depth": 61.5,
                "table": 55.0,
                "x": 5.7,
                "y": 5.72,
                "z": 3.51,
            }
        },
    )

    carat: Number = Field(description="Gewicht in Karat (1 Karat = 0,2 g)")
    cut: Cut = Field(description="Güte des Schliffs, von Fair bis Ideal")
    color: Color = Field(description="Farbe, von J (fast farblos) bis D (farblos)")
    clarity: Clarity = Field(description="Reinheit, von I1 (Einschlüsse) bis IF (rein)")
    depth: Number = Field(description="Gesamthöhe in Prozent des mittleren Durchmessers")
    table: Number = Field(description="Breite der Tafel in Prozent des Durchmessers")
    x: Number = Field(description="Länge in Millimetern")
    y: Number = Field(description="Breite in Millimetern")
    z: Number = Field(description="Höhe in Millimetern")


FEATURES = tuple(Stone.model_fields)
CATEGORIES = {
    "cut": Cut.__args__,
    "color": Color.__args__,
    "clarity": Clarity.__args__,
}
EXAMPLE = Stone.model_config["json_schema_extra"]["example"]

Batch = Annotated[list[Stone], Field(min_length=1, max_length=MAX_BATCH)]
# Die Weiche entscheidet am Typ; ohne sie meldet pydantic die Fehler beider Zweige.
Question = Annotated[
    Annotated[Stone, Tag("stone")] | Annotated[Batch, Tag("batch")],
    Discriminator(lambda value: "batch" if isinstance(value, list) else "stone"),
]
QUESTION = TypeAdapter(Question)

REASONS = {
    "missing": "Das Feld fehlt.",
    "missing_body": "Der Inhalt der Anfrage fehlt.",
    "extra_forbidden": "Dieses Feld ist unbekannt.",
    "float_type": "Hier muss eine Zahl stehen.",
    "finite_number": "Die Zahl muss endlich sein.",
    "greater_than": "Die Zahl muss größer als 0 sein.",
    "less_than_equal": f"Die Zahl darf höchstens {MAX_NUMBER} sein.",
    "literal_error": "Erlaubt ist: {expected}.",
    "model_type": "Erwartet wird ein Stein als JSON-Objekt.",
    "model_attributes_type": "Erwartet wird ein Stein als JSON-Objekt.",
    "list_type": "Hier muss eine Liste von Steinen stehen.",
    "too_short": "Die Liste muss mindestens einen Stein enthalten.",
    "too_long": f"Die Liste darf höchstens {MAX_BATCH} Steine enthalten.",
    "json_invalid": "Der Inhalt ist kein gültiges JSON.",
}
# Was nicht an den Merkmalen des Steins liegt; je HTTP-Status Feld und Grund.
REFUSALS = {
    400: ("body", REASONS["json_invalid"]),
    404: ("path", "Diese Adresse gibt es nicht."),
    405: ("path", "Diese Methode ist hier nicht erlaubt."),
    413: ("body", f"Die Anfrage ist größer als {MAX_BODY_BYTES // 1024} KiB."),
    500: ("service", "Im Dienst ist ein Fehler aufgetreten."),
}


class InvalidStoneError(ValueError):
    """Eine Frage, die kein Modell beantworten soll.

    `problems` ist eine Liste aus {"field", "reason"}, beides für Menschen lesbar.
    """

    def __init__(self, problems: list[dict[str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{p['field']}: {p['reason']}" for p in problems))


def explain(errors: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Übersetzt Fehler von pydantic in {"field", "reason"} auf Deutsch.

    Das Feld eines Steins in einer Liste trägt dessen Nummer: „2.carat“ ist der dritte.
    """
    problems = []
    for error in errors[:MAX_PROBLEMS]:
        path = [str(part) for part in error["loc"]]
        for prefixes in ({"body"}, {"stone", "batch"}):
            if path and path[0] in prefixes:
                path.pop(0)
        field = "body" if error["type"] == "json_invalid" else ".".join(path) or "body"
        kind = "missing_body" if (error["type"], field) == ("missing", "body") else error["type"]
        expected = str(error.get("ctx", {}).get("expected", "")).replace(" or ", ", ")
        reason = REASONS.get(kind, "Der Wert ist ungültig.")
        problems.append(
            {
                # Feldnamen kommen von außen: gekürzt und sicher als UTF-8 darstellbar.
                "field": field[:60].encode("utf-8", "replace").decode(),
                "reason": reason.format(expected=expected.replace("'", "")),
            }
        )
    return problems


def parse(payload: Any) -> list[Stone]:
    """Prüft einen Stein oder eine Liste von Steinen und gibt immer eine Liste zurück.

    Bei ungültiger Eingabe entsteht `InvalidStoneError` mit allen Gründen auf einmal.
    """
    try:
        question = QUESTION.validate_python(payload)
    except ValidationError as error:
        raise InvalidStoneError(explain(error.errors())) from None
    return question if isinstance(question, list) else [question]
