"""The REST edge: OpenAI-compatible chat completions over FastAPI."""
