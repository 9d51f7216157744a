"""The embedded world: a small procedural universe of named objects whose geometry, colour and motion are known exactly."""
