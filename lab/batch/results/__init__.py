"""Where results go: among the others, beside what lies there, and to other places."""
