"""Tests of what Dagster sees and runs."""
