"""Many results: batches, and the page that shows them."""
