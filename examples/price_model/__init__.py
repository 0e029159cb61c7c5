"""Der Fall: ein Modell schätzt den Preis eines Diamanten in US-Dollar."""

# Ändert sich das Modell, ändert sich diese Nummer; sie steht in jeder Antwort. Hier und nicht beim
# Training, damit niemand dessen Pakete lädt, der nur die Nummer braucht.
MODEL_VERSION = "1.0.0"
