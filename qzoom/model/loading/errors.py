"""What is wrong with a checkpoint folder?"""


class CheckpointError(ValueError):
    """A checkpoint folder cannot be used; the message names the file or tensor and the remedy."""
