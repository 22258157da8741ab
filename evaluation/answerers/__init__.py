"""Who answers? The pipeline in this process, or a gateway over HTTP, alike to their callers."""

from evaluation.answerers.base import Answerer, Asked, Outcome

__all__ = ["Answerer", "Asked", "Outcome"]
