"""Where and in how much memory networks compute."""
