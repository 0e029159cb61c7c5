"""Das Preismodell mit Unterschrift, als pickle oder skops, dazu das Museum alter Dateien."""
