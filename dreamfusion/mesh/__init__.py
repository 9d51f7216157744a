"""From a field to a mesh, and to files."""
