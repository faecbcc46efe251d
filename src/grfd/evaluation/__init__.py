"""Protocols, worst case, gradient-masking checks, per-example records."""
