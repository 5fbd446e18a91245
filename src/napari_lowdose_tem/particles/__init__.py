"""Particles of a frame: found, and matched with a known truth."""
