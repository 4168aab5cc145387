"""Tests of elbows, the guide's table, selection and plots."""
