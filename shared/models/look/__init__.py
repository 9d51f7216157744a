"""Looking at models: what they are, hold and can do, by their headers and configurations alone."""
