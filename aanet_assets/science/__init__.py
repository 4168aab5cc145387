"""What computes: plain functions of arrays and paths, which know neither steps nor Dagster."""
