"""Zwei Modellversionen hinter einem Router vergleichen: Shadow, Canary, A/B-Test."""

# Verkauft wird, wenn das Angebot höchstens so weit vom wahren Preis entfernt ist.
TOLERANCE = 0.10
