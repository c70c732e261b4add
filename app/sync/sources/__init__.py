"""Sources: what a shop owns and we only read."""
