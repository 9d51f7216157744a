"""Training of temporal layers."""
