"""What a file says of how it came about, in words that other programs read."""
