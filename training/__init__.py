"""Training the built-in model: base, region proposal branch, gate."""
