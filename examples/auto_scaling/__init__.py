"""Auto-Scaling: Replikate nach Bedarf, mit dem HPA von Kubernetes und mit Ray Serve."""
