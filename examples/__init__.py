"""Je Ansatz ein Beispiel, das sich wirklich betreiben lässt."""
