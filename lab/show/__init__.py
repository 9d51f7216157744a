"""What the user sees: progress, previews, sheets, words."""
