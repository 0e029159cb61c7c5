"""Die Stufen der Pipeline, je Datei eine."""
