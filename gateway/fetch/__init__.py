"""Pictures behind URLs: off by default, and never a way into the operator's network."""
