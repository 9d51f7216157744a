"""The embedded world: a small procedural universe whose geometry, colours and motions are known exactly."""
