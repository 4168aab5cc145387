"""Null clusters, shapes, replicates and evidence."""
