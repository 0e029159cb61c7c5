"""Warten, bis der Dienst etwas Bestimmtes von sich sagt, und zeigen, was er sagt.

Aufruf: python -m examples.model_registry.wait URL --model-version 1.1.0
"""

import argparse
import json
import sys
import time

import httpx


def wait(url: str, timeout: float, **wanted: str | None) -> dict:
    """Gibt /health zurück, sobald alles Verlangte darin steht; sonst `TimeoutError`."""
    deadline, seen = time.monotonic() + timeout, {}
    while time.monotonic() < deadline:
        try:
            seen = httpx.get(f"{url}/health", timeout=5).json()
        except (httpx.HTTPError, ValueError):
            seen = {"status": "unreachable"}
        # Nur von der Meldung genügt ein Stück: 1.0.0 steckt auch in 11.0.0.
        said = {key: seen.get(key) or "" for key, value in wanted.items() if value}
        if all(
            wanted[k] in text if k == "problem" else wanted[k] == text for k, text in said.items()
        ):
            return seen
        time.sleep(0.05)
    raise TimeoutError(
        f"Nach {timeout:g} s sagt der Dienst: {json.dumps(seen, ensure_ascii=False)}"
    )


def main() -> int:
    """Wartet einmal; läuft die Zeit ab, ist das ein Fehler."""
    parser = argparse.ArgumentParser(description="Auf einen Zustand des Dienstes warten.")
    parser.add_argument("url")
    parser.add_argument("--model-version")
    parser.add_argument("--status")
    parser.add_argument("--problem", help="ein Stück der Meldung")
    parser.add_argument("--timeout", type=float, default=60)
    try:
        print(json.dumps(wait(**vars(parser.parse_args())), ensure_ascii=False))
    except TimeoutError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
