"""What the services share: batching, the compute thread, reading state, reporting status."""
