"""What is read of runs on disk: the page of one run, the history of a project, tests that waver.

Data goes one way: `records` and `past` read, `page_model`, `timeline` and `trends` decide and are pure,
`page` writes HTML. Nothing here asks the daemon, and no other verb loads any of it.
"""
