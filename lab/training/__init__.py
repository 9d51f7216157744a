"""`kinoform train all`: own data to a model, stage by stage."""
