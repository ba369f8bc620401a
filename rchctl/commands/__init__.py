"""One module a verb; only the chosen one is imported."""
