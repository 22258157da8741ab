"""Q-Zoom: query-aware adaptive perception for multimodal LLMs. Method, contracts, telemetry."""
