"""How right and how costly is a model? Accuracy by group, routes, boxes."""
