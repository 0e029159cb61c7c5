"""Vor dem Start: wie viele Nutzer der Versuch braucht und wie lange er dauert.

Aufruf: `python -m examples.ab_test.plan proportion --base 0.10 --target 0.11 --daily-units 2000`,
`python -m examples.ab_test.plan error ORDNER_ALT ORDNER_NEU --mde 5` oder
`python -m examples.ab_test.plan offline ORDNER …`.
Jede Zeile der Ausgabe ist JSON. Neben jeder Zahl steht die von statsmodels.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from statistics import NormalDist

import numpy as np

from examples.ab_test import TOLERANCE
from examples.ab_test.options import above_zero, fraction
from examples.price_model.data import load_diamonds, split
from examples.price_model.predict import ModelMissingError, load_model
from examples.price_model.schema import Stone


def per_arm(variance: float, difference: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Gibt den Stichprobenumfang je Arm zurück.

    `variance` ist die Summe der Varianzen beider Arme, bei Paaren die der Differenz.
    """
    quantiles = NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)
    return math.ceil(quantiles**2 * variance / difference**2)


def proportion(base: float, target: float, alpha: float, power: float) -> dict:
    """Plant einen Vergleich zweier Anteile."""
    # Erst hier: Der Import dauert länger als jede dieser Rechnungen.
    from statsmodels.stats.power import NormalIndPower
    from statsmodels.stats.proportion import proportion_effectsize

    variance = base * (1 - base) + target * (1 - target)
    effect = proportion_effectsize(target, base)
    theirs = NormalIndPower().solve_power(effect, alpha=alpha, power=power)
    size = per_arm(variance, target - base, alpha, power)
    return {"per_arm": size, "statsmodels": math.ceil(theirs)}


def planned(options: argparse.Namespace, target: float) -> dict:
    """Plant einen Vergleich zweier Anteile und, wenn bekannt, seine Dauer."""
    row = {"base": options.base, "target": target}
    row |= proportion(options.base, target, options.alpha, options.power)
    if options.daily_units:
        row["weeks"] = weeks(2 * row["per_arm"], options.daily_units)
    return row


def weeks(units: int, daily_units: float) -> int:
    """Gibt die Dauer in ganzen Wochen zurück: Wochentage unterscheiden sich."""
    return math.ceil(units / daily_units / 7)


def evaluate(folder: Path) -> tuple[str, np.ndarray, np.ndarray]:
    """Gibt Version, Fehler in US-Dollar und wahre Preise auf den Testdaten zurück."""
    _, X_test, _, y_test = split(load_diamonds()[0])
    try:
        model = load_model("onnx", folder)
    except ModelMissingError:
        raise
    except Exception as error:  # die Fehler von onnxruntime haben keine gemeinsame Klasse
        reason = f"Das Modell in {folder.name}/ lässt sich nicht laden ({type(error).__name__})."
        raise ModelMissingError(reason) from None
    stones = [Stone.model_construct(**row) for row in X_test.to_dict("records")]
    return model.version, np.array(model.predict(stones)) - y_test, y_test.to_numpy()


def offline(folder: Path) -> dict:
    """Gibt die Güte eines Modells auf den Testdaten zurück."""
    version, error, value = evaluate(folder)
    return {
        "model_version": version,
        "mae_usd": round(float(np.abs(error).mean()), 1),
        "rmse_usd": round(float(np.sqrt((error**2).mean())), 1),
        "within_tolerance": round(float((np.abs(error) <= TOLERANCE * value).mean()), 3),
    }


def price_error(control: Path, treatment: Path, mde: float, alpha: float, power: float) -> dict:
    """Plant den Vergleich zweier mittlerer Fehler: getrennte Steine gegen dieselben Steine."""
    from statsmodels.stats.power import TTestIndPower, TTestPower

    old, new = (np.abs(evaluate(folder)[1]) for folder in (control, treatment))
    between = old.var(ddof=1) + new.var(ddof=1)
    within = (new - old).var(ddof=1)
    options = {"alpha": alpha, "power": power}
    separate = TTestIndPower().solve_power(mde / math.sqrt(between / 2), **options)
    paired = TTestPower().solve_power(mde / math.sqrt(within), **options)
    return {
        "mae_usd": [round(float(errors.mean()), 1) for errors in (old, new)],
        "sd_of_error": round(math.sqrt(between / 2)),
        "sd_of_difference": round(math.sqrt(within)),
        "separate_per_arm": per_arm(between, mde, alpha, power),
        "separate_statsmodels": math.ceil(separate),
        "paired": per_arm(within, mde, alpha, power),
        "paired_statsmodels": math.ceil(paired),
    }


def read_options() -> argparse.Namespace:
    """Liest die Befehlszeile."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--alpha", type=fraction, default=0.05, help="erlaubte Fehlalarme")
    shared.add_argument("--power", type=fraction, default=0.8, help="Teststärke")
    parser = argparse.ArgumentParser(description="Stichprobenumfang vor dem Start")
    kinds = parser.add_subparsers(dest="kind", required=True)
    shares = kinds.add_parser("proportion", parents=[shared], help="zwei Anteile")
    shares.add_argument("--base", type=fraction, required=True, help="Anteil heute")
    shares.add_argument(
        "--target", type=fraction, required=True, nargs="+", help="Anteil, der sich lohnt"
    )
    shares.add_argument("--daily-units", type=above_zero(float), help="Nutzer je Tag im Versuch")
    errors = kinds.add_parser("error", parents=[shared], help="zwei mittlere Preisfehler")
    errors.add_argument("control", type=Path)
    errors.add_argument("treatment", type=Path)
    errors.add_argument("--mde", type=above_zero(float), required=True, help="in US-Dollar")
    table = kinds.add_parser("offline", help="Güte auf den Testdaten")
    table.add_argument("folders", type=Path, nargs="+")
    options = parser.parse_args()
    if options.kind == "proportion":
        if not all(0 < value < 1 for value in (options.base, *options.target)):
            parser.error("--base und --target müssen zwischen 0 und 1 liegen.")
        if options.base in options.target:
            parser.error("Ohne Unterschied zwischen --base und --target gibt es nichts zu planen.")
    if options.kind == "error" and options.control.resolve() == options.treatment.resolve():
        parser.error("Ein Modell hat zu sich selbst keinen Unterschied.")
    if options.kind != "offline" and not (0 < options.alpha < options.power < 1):
        parser.error("Verlangt ist 0 < --alpha < --power < 1.")
    return options


def main() -> int:
    """Plant und zeigt das Ergebnis."""
    options = read_options()
    try:
        if options.kind == "offline":
            rows = [offline(folder) for folder in options.folders]
        elif options.kind == "error":
            rows = [
                price_error(
                    *(options.control, options.treatment, options.mde),
                    *(options.alpha, options.power),
                )
            ]
        else:
            rows = [planned(options, target) for target in options.target]
    except ModelMissingError as error:
        print(error, file=sys.stderr)
        return 1
    for row in rows:
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
