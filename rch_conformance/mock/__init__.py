"""`rch-mock-worker`: speaks the whole worker protocol, follows a scenario and runs no toolchain."""
