"""Der Preisdienst mit Flask."""
