"""Dagit in a real browser, as its users work with it."""
