"""Pure decisions of the daemon: an event in, own state changed, effects out."""
