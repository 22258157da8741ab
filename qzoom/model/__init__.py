"""The method: one class per stage, pure torch and transformers."""
