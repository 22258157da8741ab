"""The `qzoom` command: one module for each command."""
