"""The Enhance dock."""
