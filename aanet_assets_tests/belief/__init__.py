"""Tests of aanet_assets.belief."""
