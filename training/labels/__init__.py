"""Labels that a model makes for itself: regions, gate decisions, hard samples."""
