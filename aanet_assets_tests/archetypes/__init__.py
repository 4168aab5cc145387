"""Tests of simplex, network, extrema, training and export."""
