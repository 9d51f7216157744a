"""Meshes as files: one writer a format, and `write.write_mesh` before them all."""
