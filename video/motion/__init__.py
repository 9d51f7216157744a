"""AnimateDiff's motion modules (Guo et al. 2023) on an image model of the core."""
