"""Jobs: a recipe and where its result goes, made without a console."""
