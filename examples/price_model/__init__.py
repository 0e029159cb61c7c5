"""Der Fall: ein Modell schätzt den Preis eines Diamanten in US-Dollar."""
