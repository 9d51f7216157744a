"""What fills space: density and colour at every point."""
