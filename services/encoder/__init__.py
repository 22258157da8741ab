"""The encoder service: pictures and crops to visual tokens."""
