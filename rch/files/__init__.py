"""File rules that host and worker share: places, durable writes, locks, safe extraction."""
