"""A language model, a corpus and an SAE made on this machine, for a study that needs no hub."""
