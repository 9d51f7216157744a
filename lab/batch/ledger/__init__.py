"""What is known of a batch, on the disk: every task, its state, and who is at it."""
