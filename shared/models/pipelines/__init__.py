"""Models that diffusers' own pipeline classes run: any of them, behind one seam."""
