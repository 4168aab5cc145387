"""From text to sparse codes: the language model up to a layer, the SAE, shards, rows."""
