"""Archetypal analysis networks: many small ones, trained together as a stack."""
