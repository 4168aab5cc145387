"""A finished study in Python: simplices that texts are projected into and steered by."""
