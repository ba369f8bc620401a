"""All I/O of the daemon, one concern a module."""
