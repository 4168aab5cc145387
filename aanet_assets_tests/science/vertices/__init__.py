"""Tests of refits and vertex samples."""
