"""What gateway and stages exchange: plain data, no torch."""
