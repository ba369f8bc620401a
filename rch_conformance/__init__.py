"""Holds any worker and any host to the contract, over the protocols alone; brings a scripted worker."""
