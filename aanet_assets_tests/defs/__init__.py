"""Tests of the assets, the driver and the automation, on a real Dagster instance."""
