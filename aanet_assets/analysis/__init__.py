"""What the trained models say: elbows, the guide's table, selection, plots."""
