"""Shows the head in a browser."""
