"""Clusterings of latents and the ranks of what they hold."""
