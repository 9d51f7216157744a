"""One module for each group of file formats; `shared.artifacts.media` is their front."""
