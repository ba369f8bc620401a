"""Mutants of what the records of a set say (sections 8, 10)."""
