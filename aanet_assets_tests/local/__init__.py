"""Tests of what a study makes for itself."""
