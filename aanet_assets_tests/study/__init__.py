"""Tests of studies and their settings."""
