"""Model folders: finding, loading, checking, describing and saving them; text, and the scorer."""
