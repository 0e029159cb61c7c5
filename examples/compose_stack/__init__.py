"""Mehrere Replikate hinter einem Load Balancer, dazu Monitoring und Registry, mit Compose."""
