"""The page of results: a folder that a browser opens from disk, without a server."""
