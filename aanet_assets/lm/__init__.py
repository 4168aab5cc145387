"""Language model, SAE and corpus: from text to sparse codes."""
