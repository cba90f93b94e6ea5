"""What travels as JSON, as the vendors publish it."""
