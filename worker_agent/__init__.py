"""The worker: answers one request a line, keeps all state on disk."""
