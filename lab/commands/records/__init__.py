"""What files say of themselves: what made them, and who says so."""
