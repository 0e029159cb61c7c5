"""Das Gate: Ein Kandidat darf nicht messbar schlechter sein als der Champion.

Beide bewerten denselben festen Prüfsatz mit der ONNX-Datei, die auch ausgeliefert wird.
Verglichen wird gepaart, Stein für Stein, insgesamt und je Segment.

Aufruf: python -m examples.ci_cd_pipeline.gate --champion A --candidate B --testset T.csv
Exitcode 0: bestanden. 1: gesperrt. 2: nicht entscheidbar, also ebenfalls kein Deployment.
"""

import argparse
import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from examples.price_model.data import TARGET
from examples.price_model.predict import ModelMissingError, load_metadata, load_model
from examples.price_model.schema import FEATURES, MAX_BATCH, InvalidStoneError, parse

# Insgesamt zwei Standardabweichungen dessen, was Neutraining allein ausmacht; je Segment
# gut anderthalb des unruhigsten (gemessen mit spread.py).
TOLERANCE, SEGMENT_TOLERANCE = 0.02, 0.15
# Einseitig 95 %: Sooft ein Kandidat genau auf der Grenze liegt, kommt er in 5 % der Fälle durch.
Z = 1.645
MIN_ROWS = 100
SEGMENTS = {
    "unter 0,5 ct": (0, 0.5),
    "0,5 bis 1 ct": (0.5, 1),
    "1 bis 2 ct": (1, 2),
    "ab 2 ct": (2, 99),
}


class UndecidableError(ValueError):
    """Es fehlt etwas, um zu entscheiden; ein Gate ohne Antwort bleibt zu."""


def absolute_errors(folder: Path, table: pd.DataFrame) -> np.ndarray:
    """Gibt je Stein den Betrag des Fehlers in US-Dollar zurück."""
    model, prices = load_model("onnx", folder), []
    rows = table[list(FEATURES)].to_dict("records")
    for start in range(0, len(rows), MAX_BATCH):
        prices += model.predict(parse(rows[start : start + MAX_BATCH]))
    return np.abs(np.array(prices) - table[TARGET].to_numpy())


# [compare]
def compare(candidate: np.ndarray, champion: np.ndarray, tolerance: float) -> dict:
    """Vergleicht gepaart: Besteht nur, wer auch im ungünstigen Fall in der Toleranz liegt."""
    difference = candidate - champion
    error = difference.std(ddof=1) / math.sqrt(len(difference))
    worst = difference.mean() + Z * error
    allowed = tolerance * champion.mean()
    return {
        "rows": len(difference),
        "champion_usd": round(float(champion.mean()), 2),
        "candidate_usd": round(float(candidate.mean()), 2),
        "worst_case_usd": round(float(worst), 2),
        "allowed_usd": round(float(allowed), 2),
        # So herum geschrieben, damit auch NaN sperrt.
        "passed": bool(worst <= allowed),
    }


# [end compare]


def decide(
    champion: Path,
    candidate: Path,
    testset: Path,
    tolerance: float = TOLERANCE,
    segment_tolerance: float = SEGMENT_TOLERANCE,
) -> dict:
    """Entscheidet insgesamt und je Segment; gibt den Bericht zurück."""
    table = pd.read_csv(testset)
    if missing := {*FEATURES, TARGET} - set(table):
        raise UndecidableError(f"Im Prüfsatz fehlt {', '.join(sorted(missing))}.")
    if len(table) < MIN_ROWS:
        raise UndecidableError(f"Der Prüfsatz hat {len(table)} Zeilen, nötig sind {MIN_ROWS}.")
    new, old = absolute_errors(candidate, table), absolute_errors(champion, table)
    parts = {"alle": compare(new, old, tolerance)}
    for name, (low, high) in SEGMENTS.items():
        chosen = ((table["carat"] >= low) & (table["carat"] < high)).to_numpy()
        # Aus wenigen Steinen folgt nichts; das Segment zählt dann nur in „alle“.
        if chosen.sum() >= MIN_ROWS:
            parts[name] = compare(new[chosen], old[chosen], segment_tolerance)
    return {
        "passed": all(part["passed"] for part in parts.values()),
        "champion": load_metadata(champion)["model_version"],
        "candidate": load_metadata(candidate)["model_version"],
        # Der Bericht gilt für genau diese Datei und für keine andere.
        "model_sha256": sha256(candidate / "price_model.onnx"),
        "testset_sha256": sha256(testset),
        "parts": parts,
    }


def sha256(path: Path) -> str:
    """Prüfsumme einer Datei als Hexzeichen."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def table_of(report: dict) -> str:
    """Der Bericht als Tabelle; Beträge in ganzen US-Dollar."""
    lines = [f"{'':14}{'Steine':>7}{'Champion':>10}{'Kandidat':>10}  Urteil"]
    for name, part in report["parts"].items():
        verdict = "bestanden" if part["passed"] else "gesperrt"
        lines.append(
            f"{name:14}{part['rows']:>7}{part['champion_usd']:>10.0f}"
            f"{part['candidate_usd']:>10.0f}  {verdict}"
        )
    return "\n".join(lines)


def share(text: str) -> float:
    """Liest eine Toleranz von 0 bis 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} ist keine Toleranz von 0 bis unter 1.")
    return number


def main() -> int:
    """Zeigt die Tabelle, schreibt auf Wunsch den Bericht und entscheidet mit dem Exitcode."""
    parser = argparse.ArgumentParser(description="Kandidat gegen Champion.")
    parser.add_argument("--champion", type=Path, required=True, help="Ordner des Modells im Dienst")
    parser.add_argument("--candidate", type=Path, required=True, help="Ordner des neuen Modells")
    parser.add_argument("--testset", type=Path, required=True, help="CSV, die kein Training sah")
    parser.add_argument("--tolerance", type=share, default=TOLERANCE, help="insgesamt")
    parser.add_argument("--segment-tolerance", type=share, default=SEGMENT_TOLERANCE)
    parser.add_argument("--report", type=Path, help="hierhin kommt der Bericht als JSON")
    options = parser.parse_args()
    try:
        if options.report:
            # Ein alter Bericht darf nicht gelten, falls dieser Vergleich scheitert.
            options.report.unlink(missing_ok=True)
        report = decide(
            options.champion,
            options.candidate,
            options.testset,
            options.tolerance,
            options.segment_tolerance,
        )
        if options.report:
            options.report.write_text(json.dumps(report, indent=2), encoding="utf-8")
    except InvalidStoneError as error:
        print(f"Nicht entscheidbar: Der Prüfsatz ist ungültig, {error}", file=sys.stderr)
        return 2
    except (OSError, ValueError, KeyError, ModelMissingError) as error:
        print(f"Nicht entscheidbar: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # onnxruntime wirft eigene Fehler, etwa bei einer kaputten Datei
        print(f"Nicht entscheidbar: {type(error).__name__}.", file=sys.stderr)
        return 2
    print(table_of(report))
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
