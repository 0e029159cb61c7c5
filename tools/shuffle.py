"""Die Tests dreimal in zufälliger Reihenfolge ausführen: `make shuffle`.

Gemischt werden die Dateien und die Notebooks, nie was darin steht: Dort baut eins auf dem
anderen auf. Aufruf: python tools/shuffle.py [--seed N] [Dateien …]; mit N ein einziges Mal.
"""

import argparse
import random
import secrets
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNS = 3


def order(paths: list[Path], seed: int) -> list[str]:
    """Die Pfade in der Reihenfolge, die zu diesem Startwert gehört."""
    mixed = sorted(map(str, paths))
    random.Random(seed).shuffle(mixed)
    return mixed


def run(paths: list[Path], seed: int) -> bool:
    """Ein Lauf in gemischter Reihenfolge; wahr, wenn alles grün war."""
    print(
        f"== Startwert {seed} (noch einmal: python tools/shuffle.py --seed {seed}) ==", flush=True
    )
    tests = [path for path in paths if path.suffix == ".py"]
    notebooks = [path for path in paths if path.suffix == ".ipynb"]
    # Als Argument, nicht als Variable: Auch Tests und Notebooks rufen pytest.
    pytest = [sys.executable, "tools/run_tests.py", "-q", "-n", "2", "--dist", "loadfile"]
    pytest += ["--no-loadscope-reorder"]
    nbval = [sys.executable, "tools/run_nbval.py", "--in-order"]
    commands = [[*pytest, *order(tests, seed)]] if tests else []
    commands += [[*nbval, *order(notebooks, seed)]] if notebooks else []
    # Beide, auch wenn der erste schon rot ist.
    codes = [subprocess.run(command, cwd=ROOT).returncode for command in commands]
    return not any(codes)


def main() -> int:
    """Mischt dreimal oder mit dem genannten Startwert; 1, wenn ein Lauf rot war."""
    parser = argparse.ArgumentParser(description="Tests in zufälliger Reihenfolge ausführen.")
    parser.add_argument("--seed", type=int, help="nur dieser Startwert")
    parser.add_argument("paths", nargs="*", type=Path, help="Vorgabe: alle Tests und Notebooks")
    options = parser.parse_args()
    if absent := [path for path in options.paths if not path.is_file()]:
        sys.exit(f"Gibt es nicht: {', '.join(map(str, absent))}")
    found = [*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("notebooks/*.ipynb")]
    paths = options.paths or found
    seeds = [options.seed] if options.seed is not None else []
    seeds = seeds or [secrets.randbelow(1_000_000) for _ in range(RUNS)]
    green = [run(paths, seed) for seed in seeds]
    return int(not all(green))


if __name__ == "__main__":
    sys.exit(main())
