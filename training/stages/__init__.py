"""Stages that are trained on top of a base model: RPN, gate, Post-SFT."""
