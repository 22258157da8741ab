"""The RPN service: where to look."""
