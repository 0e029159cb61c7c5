"""Das Guardrail: wann ein Behandlungsarm von selbst abgeschaltet wird."""

import math
import statistics
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Was der Behandlungsarm im Fenster der letzten Fragen höchstens darf."""

    window: int = 200
    min_requests: int = 50
    max_errors: float = 0.05
    max_odd: float = 0.05
    # Gegen den Kontrollarm statt in Millisekunden: Auf vollem Rechner sind beide langsam.
    max_slowdown: float = 3.0
    # Die Preise im Training liegen zwischen 326 und 18 823 US-Dollar.
    lowest_usd: float = 200
    highest_usd: float = 25_000


class Guardrail:
    """Sieht die letzten Ergebnisse beider Arme und nennt den Grund für ein Rollback."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.reset()

    def reset(self) -> None:
        """Vergisst alles, etwa nach einem neuen Anteil."""
        self.treatment: deque = deque(maxlen=self.limits.window)
        self.control: deque = deque(maxlen=self.limits.window)

    def odd(self, prices: list[float]) -> bool:
        """Ist ein Preis außerhalb dessen, was es je gab?"""
        return any(not self.limits.lowest_usd <= p <= self.limits.highest_usd for p in prices)

    def reason(self) -> str | None:
        """Gibt den Grund zurück, sobald eine Grenze gerissen ist, sonst None."""
        limits, count = self.limits, len(self.treatment)
        if count < limits.min_requests:
            return None
        failed = sum(not ok for ok, _, _ in self.treatment)
        odd = sum(odd for _, _, odd in self.treatment)
        for number, limit, what in (
            (failed, limits.max_errors, "Antworten gescheitert"),
            (odd, limits.max_odd, "Preise auffällig"),
        ):
            if number > limit * count:
                return f"{number} von {count} {what}, erlaubt sind {limit:.0%}"
        if len(self.control) >= limits.min_requests:
            slowdown = middle(self.treatment) / max(middle(self.control), 1e-9)
            if slowdown > limits.max_slowdown:
                return (
                    f"Im Median {slowdown:.1f}-mal so langsam wie der Kontrollarm, "
                    f"erlaubt ist {limits.max_slowdown:g}-mal"
                )
        return None


def middle(results: deque) -> float:
    """Die mittlere Dauer in Sekunden."""
    return statistics.median(seconds for _, seconds, _ in results)


def usable(price: object) -> bool:
    """Ist das ein Preis? Alles andere gilt als gescheiterte Antwort."""
    return isinstance(price, int | float) and math.isfinite(price) and price > 0
