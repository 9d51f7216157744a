"""Prompts: what else they might say."""
