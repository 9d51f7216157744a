"""What is said to a model: words, their weights, and what its text encoders make of them."""
