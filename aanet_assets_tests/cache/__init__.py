"""Tests of the activation cache and of cluster-major rows."""
