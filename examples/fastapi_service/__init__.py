"""Der Preisdienst mit FastAPI."""
