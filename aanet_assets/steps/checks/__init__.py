"""What the output of each step must satisfy before it counts."""
