"""The pipeline: each step declared once, one file per group of assets."""
