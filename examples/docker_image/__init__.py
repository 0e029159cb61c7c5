"""Der Preisdienst als Container: Image, Stapelvorhersage und die Versuche des Kapitels."""
