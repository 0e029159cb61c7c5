"""Der Preisdienst mit einem Log, das Fragen beantwortet."""
