"""What decides and acts."""
