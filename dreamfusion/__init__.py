"""Score distillation from the core into a radiance field, and from there to a mesh."""
