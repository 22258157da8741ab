"""Putting the system together: one application, locally or on a cluster."""
