"""Which toolchains this machine has."""
