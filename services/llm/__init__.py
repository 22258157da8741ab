"""The llm service: the layers above B, and the answer."""
