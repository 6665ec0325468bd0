"""What is known and remembered."""
