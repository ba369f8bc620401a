"""The host daemon: queues runs, holds leases, ships source, verifies what comes back."""
