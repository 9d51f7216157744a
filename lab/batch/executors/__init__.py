"""Where tasks are done: by worker processes of this machine."""
