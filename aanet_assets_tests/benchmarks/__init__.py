"""Benchmarks: scripts that print tables. Nothing here is a test."""
