"""Der Preisdienst als Container-Image."""
