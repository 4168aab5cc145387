"""Checks of what each step wrote: plain functions that read its files and say what they found."""
