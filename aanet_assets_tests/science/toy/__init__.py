"""Tests of the toy with a known answer."""
