"""What `rchctl`, `rchd` and `rch-worker` share: the contract, the config and file rules."""

__version__ = "0.1.0"
