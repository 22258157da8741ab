"""One folder, one Ray Serve deployment: encoder, gate, rpn, llm."""
