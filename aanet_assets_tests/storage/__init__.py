"""Tests of files, locks, records and tables."""
