"""What each frame of a clip is told, and the noise that frames have in common."""
