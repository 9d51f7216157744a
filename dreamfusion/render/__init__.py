"""Pictures of fields and of meshes."""
