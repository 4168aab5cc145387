"""Tests of the network, its training and its export."""
