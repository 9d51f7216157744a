"""Commands about models: `kinoform models`, `inspect` and `convert`."""
