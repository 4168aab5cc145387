"""Tests of elbows, the guide's table, evidence and verdicts."""
