"""What the three programs agree on: pure, without I/O, clock or randomness."""
