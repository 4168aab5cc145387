"""Tests of the language model, the SAE, the corpus and the cache."""
