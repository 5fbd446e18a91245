"""Figures people save: profiles, frames side by side, scale bars."""
