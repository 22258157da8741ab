"""Crop where the answer's tokens attend to: no training, but a whole answer must be decoded first.

The attention of the fed-back answer tokens to the picture's cells, averaged over tokens, heads and
the chosen layers (Eq. 10), is cut at a share of its maximum; the smallest box around what is left
is looked at (Table V, row 1).
"""

from collections.abc import Sequence

import numpy as np

from evaluation.answerers.base import Asked
from evaluation.baselines.rival import SecondLook, record_of
from qzoom.contracts.stages import Box, ImageSpan, Proposal
from qzoom.model.images import Pixels
from qzoom.model.pipeline import Answer, Pipeline
from training.labels.crops import finder
from training.reading.reader import Reader

SHARE = 0.2
"""Cells above this share of the maximum count, the paper's tau_fg."""


class AttentionCrop:
    """Response-to-image attention as a region proposal.

    Args:
        pipeline: The base model.
        layers: Decoder layers from 0; the one after the paper's split B if not given.
        share: Cells above this share of the largest attention are kept, in (0, 1).
    """

    name = "response-to-image attention"

    def __init__(
        self, pipeline: Pipeline, layers: Sequence[int] | None = None, share: float = SHARE
    ) -> None:
        checkpoint = pipeline.checkpoint
        self._reader = Reader(checkpoint, pipeline.encoder, pipeline.decoder)
        self._second = SecondLook.over(pipeline)
        self._regions = finder(checkpoint)
        self._share = share
        chosen = layers if layers is not None else (checkpoint.qzoom.split_layer,)
        self._heads: dict[int, Sequence[int]] = dict.fromkeys(chosen, ())

    def answer(self, pixels: Pixels, asked: Asked) -> Answer:
        """Answer once, look where that answer attended to, answer again."""
        return self._second.look(pixels, asked, self.region(pixels, asked))

    def region(self, pixels: Pixels, asked: Asked) -> Box | None:
        """Where the first answer attends to; None where it ends with its first token."""
        picture = self._reader.open(pixels, [record_of(asked)], asked.options.max_visual_tokens)
        tails = self._reader.tails(picture, [(0, None)])
        [reading] = self._reader.answer(
            picture, tails, max_new_tokens=asked.max_tokens, heads=self._heads
        )
        if not reading.attention:
            return None
        mean = np.mean([rows.mean(axis=0) for rows in reading.attention.values()], axis=0)
        proposal = self._proposal(mean.reshape(picture.grid), picture.prompts[0].spans[0])
        return proposal.box_px if proposal else None

    def _proposal(self, attention: np.ndarray, span: ImageSpan) -> Proposal | None:
        relative = (attention / max(float(attention.max()), 1e-12)).astype(np.float32)
        return self._regions.find(span, relative, self._share)
