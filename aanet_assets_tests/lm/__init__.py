"""Tests of the language model, the SAE and the corpus."""
