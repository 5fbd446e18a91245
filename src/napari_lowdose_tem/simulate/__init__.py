"""Specimens and camera with known truth."""
