"""Parity (methods B1 to B4): references in float64, derived tolerances, and where an output first leaves them."""
