"""What does it cost? Measures, prints tables, JSON and plots; asserts nothing about time."""
