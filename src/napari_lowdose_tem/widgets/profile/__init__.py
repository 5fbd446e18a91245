"""The Line profile dock."""
