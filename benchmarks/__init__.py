"""Measurements that anyone can run: `python -m benchmarks.world_truth`, `python -m benchmarks.speed`."""
