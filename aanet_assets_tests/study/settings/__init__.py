"""Tests of groups of settings."""
