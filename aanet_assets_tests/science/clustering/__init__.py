"""Tests of the clusterings of latents and of their ranks."""
