"""How packages are made: manual pages and completions out of the parsers, and the same bytes each time."""
