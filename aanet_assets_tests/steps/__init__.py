"""Tests of the pipeline as it is declared."""
