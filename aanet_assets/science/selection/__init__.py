"""Which clusters count: elbows, quality, evidence against chance, verdicts."""
