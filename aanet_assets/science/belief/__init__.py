"""Whether the model uses a simplex as beliefs: it predicts, updates and can be edited by them."""
