"""S2: features of a larger scale, pooled onto the base grid: free for the language model.

The picture is encoded at the base size and, in four tiles, at twice that size; the tiles' features
are put together and averaged over 2 x 2. The published S2 concatenates both along the channels and
trains a projector for it. Here no weights are added, so both are averaged; with a trained projector
it would do better.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from evaluation.answerers.base import Asked
from evaluation.baselines.tiling import tiles
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.model.images import Pixels
from qzoom.model.pipeline import Answer, Pipeline, Question
from qzoom.model.state import VisualTokens

TILES = (2, 2)


class TwoScales(Pipeline):
    """The pipeline with features of two scales in the place of the coarse ones."""

    @classmethod
    def over(cls, pipeline: Pipeline) -> "TwoScales":
        """Share another pipeline's stages."""
        return cls(pipeline.checkpoint, pipeline.encoder, pipeline.gate, None, pipeline.decoder)

    def _encode_coarse(self, questions: Sequence[Question]) -> list[list[VisualTokens]]:
        base = super()._encode_coarse(questions)
        return [
            [self._finer(image, own, q.options.max_visual_tokens)
             for image, own in zip(q.images, visuals, strict=True)]
            for q, visuals in zip(questions, base, strict=True)
        ]  # fmt: skip

    def _finer(self, image: Pixels, base: VisualTokens, budget: int | None) -> VisualTokens:
        prepared = [self.encoder.prepare_coarse(tile, budget) for tile in tiles(image, TILES)]
        encoded = self.encoder.encode(prepared)
        rows = [
            torch.cat([_map(encoded[row * TILES[1] + column]) for column in range(TILES[1])], dim=3)
            for row in range(TILES[0])
            if len({encoded[row * TILES[1] + c].grid[0] for c in range(TILES[1])}) == 1
        ]
        if len(rows) < TILES[0] or len({row.shape[3] for row in rows}) > 1:
            return base  # tiles of different grids: the picture is too small to be cut
        fine = torch.nn.functional.adaptive_avg_pool2d(torch.cat(rows, dim=2), base.grid)
        pooled = fine.flatten(2).transpose(1, 2)
        return VisualTokens(base.grid, (base.features + pooled) / 2)


def _map(tokens: VisualTokens) -> Tensor:
    """[levels, D, H, W]."""
    levels, _, width = tokens.features.shape
    return tokens.features.transpose(1, 2).reshape(levels, width, *tokens.grid)


class MultiScale:
    """S2 as a rival.

    Args:
        pipeline: The base model.
    """

    name = "S2 (two scales, averaged)"

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = TwoScales.over(pipeline)

    def answer(self, pixels: Pixels, asked: Asked) -> Answer:
        """Answer from both scales, at the cost of one in the language model."""
        options = Options(route="direct", max_visual_tokens=asked.options.max_visual_tokens)
        question = Question(asked.conversation, [pixels], options, Sampling(asked.max_tokens))
        return self._pipeline.answer_many([question])[0]
