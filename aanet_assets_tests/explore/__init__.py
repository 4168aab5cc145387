"""A finished study in Python."""
