"""The toy with a known answer: process, corpus, training of its model and SAE, recovery."""
