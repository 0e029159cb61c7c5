"""Der Preisdienst unter Beobachtung: Metriken, Regeln, Alarme und wer sie bekommt."""
