"""Holds a host to the contract: its programs are run in a throw-away home against mock workers."""
