"""One file a command: `add_parser` says what it takes, `run` does it."""
