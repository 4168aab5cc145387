"""One module per study; each builds a `Study` and ends in `defs = build_defs(study)`."""
