"""Tests of the checks: each passes on what the pipeline writes, and fails where that is damaged."""
