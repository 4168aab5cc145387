"""Text near the vertices of a simplex."""
