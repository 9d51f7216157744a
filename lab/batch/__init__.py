"""Many results from one file: a manifest, a ledger that survives anything, workers that stay warm."""
