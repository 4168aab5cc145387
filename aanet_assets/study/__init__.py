"""What a study says: its settings, and what every room needs of them."""
