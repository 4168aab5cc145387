"""Tests of aanet_assets.science.belief."""
