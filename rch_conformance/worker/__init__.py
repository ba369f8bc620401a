"""Holds any worker to sections 2, 3, 4, 5, 8 and 10 of the contract, over its channel alone."""
