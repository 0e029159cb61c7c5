"""Zwei Modellversionen hinter einem Router vergleichen: Shadow, Canary, A/B-Test."""
