"""What does it cost? Measures, prints tables; asserts nothing about time."""
