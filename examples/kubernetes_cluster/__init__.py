"""Der Preisdienst in Kubernetes: Manifeste, Störungen und die Helfer, die sie auslösen."""
