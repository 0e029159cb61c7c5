"""Nach dem Versuch: erst prüfen, ob die Zuteilung stimmt, dann das Ergebnis ansehen.

Aufruf: `python -m examples.ab_test.analyse ab exposures.jsonl outcomes.jsonl --salt NAME`,
`python -m examples.ab_test.analyse shadow exposures.jsonl outcomes.jsonl --salt NAME` oder
`python -m examples.ab_test.analyse srm --control 5000 --treatment 5200 --share 0.5`.
Die Ausgabe ist eine Zeile JSON. Ende mit 3: Die Zuteilung stimmt nicht, es gibt kein Ergebnis.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist

import numpy as np
from scipy.special import chdtrc

from examples.ab_test.assignment import CONTROL, TREATMENT
from examples.ab_test.options import above_zero, fraction
from examples.ab_test.sequential import boundaries

SRM_ALPHA = 0.001
INVALID_EXIT = 3
# Je Metrik, ob mehr besser ist.
METRICS = {"sold": 1, "error_usd": -1}


class LogError(ValueError):
    """Das Protokoll passt nicht zu diesem Versuch."""


def rows(path: Path) -> Iterator[dict]:
    """Liest die Zeilen einer Datei; eine unlesbare gilt als nicht geschrieben."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if not isinstance(row, dict):
                raise LogError(f"{path.name}, Zeile {number}: Erwartet wird ein JSON-Objekt.")
            yield row


def srm(control: int, treatment: int, expected_treatment: float) -> float:
    """Gibt den p-Wert des χ²-Tests zurück: Passen die Zahlen der Arme zum Anteil?"""
    total = control + treatment
    expected = np.array([total - expected_treatment, expected_treatment])
    if not expected.all():
        # Ein Arm sollte leer sein: Dann ist jeder Nutzer darin einer zu viel.
        return float(np.allclose(expected, [control, treatment]))
    statistic = ((np.array([control, treatment]) - expected) ** 2 / expected).sum()
    return float(chdtrc(1, statistic))


def units(exposures: list[dict], values: dict[str, float]) -> tuple[dict, float, int, int]:
    """Fasst je Nutzer zusammen: Mittelwerte je Arm, erwartete Größe, Wechsler, ohne Ergebnis."""
    arms: dict[str, set] = {}
    share: dict[str, float] = {}
    found: dict[str, list] = {}
    for row in exposures:
        arms.setdefault(row["unit"], set()).add(row["arm"])
        share.setdefault(row["unit"], row["share"])
        if row["request_id"] in values:
            found.setdefault(row["unit"], []).append(values[row["request_id"]])
    # Wer beide Modelle gesehen hat, gehört in keinen Arm.
    stayed = {unit: next(iter(seen)) for unit, seen in arms.items() if len(seen) == 1}
    means = {
        arm: np.array([np.mean(found[u]) for u, a in stayed.items() if a == arm and u in found])
        for arm in (CONTROL, TREATMENT)
    }
    sizes = {arm: sum(a == arm for a in stayed.values()) for arm in (CONTROL, TREATMENT)}
    expected = sum(share[unit] for unit in stayed)
    missing = len(stayed) - sum(map(len, means.values()))
    return {"sizes": sizes, "means": means}, expected, len(arms) - len(stayed), missing


def compare(control: np.ndarray, treatment: np.ndarray, boundary: float) -> dict:
    """Vergleicht Mittelwerte; das Konfidenzintervall gehört zur Grenze."""
    difference = treatment.mean() - control.mean()
    error = np.sqrt(control.var(ddof=1) / len(control) + treatment.var(ddof=1) / len(treatment))
    return {
        "control": round(float(control.mean()), 4),
        "treatment": round(float(treatment.mean()), 4),
    } | effect(difference, error, boundary)


def effect(difference: float, error: float, boundary: float) -> dict:
    """Differenz, Intervall, z und p."""
    if difference and not error:
        raise LogError("Ohne jede Streuung lässt sich ein Unterschied nicht prüfen.")
    z = difference / error if error else 0.0
    return {
        "difference": round(float(difference), 4),
        "interval": [round(float(difference + s * boundary * error), 4) for s in (-1, 1)],
        "z": round(float(z), 2),
        "p_value": float(f"{2 * NormalDist().cdf(-abs(z)):.2g}"),
        "boundary": round(boundary, 3),
        "shown": bool(abs(z) >= boundary),
    }


def verdict(result: dict, direction: int) -> str:
    """Sagt, was daraus folgt; verglichen wurde vor dem Runden."""
    if not result.pop("shown"):
        return "no difference shown"
    return "treatment better" if result["z"] * direction > 0 else "treatment worse"


def ab(options: argparse.Namespace) -> dict:
    """Wertet einen A/B-Test aus; stimmt die Zuteilung nicht, bleibt das Ergebnis weg."""
    exposures = logged(options, "exposure")
    values = {row["request_id"]: row[options.metric] for row in rows(options.outcomes)}
    found, expected, switched, missing = units(exposures, values)
    sizes = found["sizes"]
    p = srm(sizes[CONTROL], sizes[TREATMENT], expected)
    result = {"units": sizes, "switched": switched, "without_outcome": missing}
    result |= {"srm_p": float(f"{p:.2g}"), "srm": p < SRM_ALPHA}
    # Wer wechselt, sah beide Modelle: Der Anteil wurde geändert, oder die Zuteilung klebt nicht.
    result["valid"] = not result["srm"] and not switched
    if not result["valid"]:
        return result
    if min(map(len, found["means"].values())) < 2:
        raise LogError("Je Arm braucht es mindestens zwei Nutzer mit Ergebnis.")
    boundary = boundaries(options.looks)[options.look - 1]
    result["metric"] = options.metric
    result |= compare(found["means"][CONTROL], found["means"][TREATMENT], boundary)
    return result | {"verdict": verdict(result, METRICS[options.metric])}


def shadow(options: argparse.Namespace) -> dict:
    """Vergleicht beide Modelle auf denselben Fragen; der wahre Preis kam später."""
    values = {row["request_id"]: row["value_usd"] for row in rows(options.outcomes)}
    pairs = np.array(
        [
            (row["control_usd"][0], row["treatment_usd"][0], values[row["request_id"]])
            for row in logged(options, "shadow")
            if row["request_id"] in values and len(row["treatment_usd"]) == 1
        ]
    )
    if len(pairs) < 2:
        raise LogError("Es fehlen Fragen, die beide Modelle beantwortet haben.")
    old, new = (np.abs(pairs[:, arm] - pairs[:, 2]) for arm in (0, 1))
    difference = new - old
    error = difference.std(ddof=1) / np.sqrt(len(pairs))
    result = {"pairs": len(pairs), "control": round(float(old.mean()), 1)}
    result |= {"treatment": round(float(new.mean()), 1)}
    result |= effect(difference.mean(), error, NormalDist().inv_cdf(0.975))
    return result | {"verdict": verdict(result, METRICS["error_usd"])}


def logged(options: argparse.Namespace, event: str) -> list[dict]:
    """Liest die Ereignisse eines Versuchs."""
    found = [
        row
        for row in rows(options.exposures)
        if row.get("event") == event and row.get("experiment") == options.salt
    ]
    if not found:
        raise LogError(f"Im Protokoll steht vom Versuch {options.salt!r} kein {event!r}.")
    return found


def read_options() -> argparse.Namespace:
    """Liest die Befehlszeile."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("exposures", type=Path, help="Protokoll des Routers")
    shared.add_argument("outcomes", type=Path, help="Ergebnisse je Anfrage")
    shared.add_argument("--salt", required=True, help="Name des Versuchs")
    parser = argparse.ArgumentParser(description="Einen Versuch auswerten")
    kinds = parser.add_subparsers(dest="kind", required=True)
    test = kinds.add_parser("ab", parents=[shared], help="A/B-Test oder Canary")
    test.add_argument("--metric", choices=list(METRICS), default="sold")
    test.add_argument("--looks", type=above_zero(int), default=1, help="geplante Blicke")
    test.add_argument("--look", type=above_zero(int), help="der wievielte das ist")
    kinds.add_parser("shadow", parents=[shared], help="beide Modelle auf denselben Fragen")
    counts = kinds.add_parser("srm", help="nur die Größe der Arme prüfen")
    counts.add_argument("--control", type=above_zero(int), required=True)
    counts.add_argument("--treatment", type=above_zero(int), required=True)
    counts.add_argument("--share", type=fraction, default=0.5)
    options = parser.parse_args()
    if options.kind == "ab":
        options.look = options.look or options.looks
        if not options.look <= options.looks <= 100:
            parser.error("--look liegt zwischen 1 und --looks, und --looks höchstens bei 100.")
    if options.kind == "srm" and not 0 < options.share < 1:
        parser.error("--share liegt zwischen 0 und 1.")
    return options


def main() -> int:
    """Wertet aus und zeigt das Ergebnis."""
    options = read_options()
    try:
        if options.kind == "srm":
            total = options.control + options.treatment
            p = srm(options.control, options.treatment, total * options.share)
            result = {"srm_p": float(f"{p:.2g}"), "srm": p < SRM_ALPHA, "valid": p >= SRM_ALPHA}
        else:
            result = {"ab": ab, "shadow": shadow}[options.kind](options)
    except OSError as error:
        name = Path(error.filename).name
        print(f"{name} lässt sich nicht lesen: {error.strerror}.", file=sys.stderr)
        return 1
    except LogError as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyError, TypeError) as error:
        print(f"Den Zeilen fehlt etwas: {error}.", file=sys.stderr)
        return 1
    print(json.dumps(result))
    if not result.get("valid", True):
        wrong = "die Größen der Arme passen nicht zum Anteil (SRM)"
        problem = wrong if result["srm"] else "Nutzer wechselten den Arm"
        print(f"Kein Ergebnis: Die Zuteilung stimmt nicht, {problem}.", file=sys.stderr)
        return INVALID_EXIT
    return 0


if __name__ == "__main__":
    sys.exit(main())
