"""From token ids and visual tokens to the input of the first decoder layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qzoom.model.backbones import TextBackbone
from qzoom.model.parameters import assign_tensors
from qzoom.model.stack import Deepstack
from qzoom.model.state import VisualTokens

EMBEDDINGS = "model.language_model.embed_tokens."


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive tokens of one request.

    Attributes:
        ids: Token ids [T], int32.
        visual: (first token, visual tokens) of each picture in the segment; the tokens' ids are
            placeholders.
    """

    ids: NDArray[np.int32]
    visual: tuple[tuple[int, VisualTokens], ...]


class InputEmbedding(nn.Module):
    """Token embeddings, with the pictures' features in the placeholders' place.

    Args:
        backbone: Gives the sizes.
    """

    def __init__(self, backbone: TextBackbone) -> None:
        super().__init__()
        with torch.device("meta"):
            self.tokens = nn.Embedding(int(backbone.config.vocab_size), backbone.hidden_size)
        self._num_deepstack = backbone.num_deepstack

    def load(
        self, tensors: Mapping[str, Tensor], *, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Take over the embedding table."""
        assign_tensors(self.tokens, tensors, EMBEDDINGS, device=device, dtype=dtype)

    def forward(self, segments: Sequence[Segment]) -> tuple[Tensor, Deepstack | None]:
        """Embed packed segments.

        Returns:
            hidden_TD: Input of layer 1.
            deepstack: What the first layers add, where the backbone does.

        Raises:
            ValueError: If a picture does not fit the backbone or its segment.
        """
        weight = self.tokens.weight
        ids = torch.from_numpy(np.concatenate([s.ids for s in segments])).to(weight.device)
        hidden_TD = self.tokens(ids)
        rows, features, offset = [], [], 0
        for segment in segments:
            for start, visual in segment.visual:
                levels, count, _ = visual.features.shape
                if levels != 1 + self._num_deepstack or start + count > len(segment.ids):
                    raise ValueError(
                        f"visual tokens {tuple(visual.features.shape)} do not fit at {start} of "
                        f"{len(segment.ids)} tokens and {self._num_deepstack} deepstack levels"
                    )
                rows.append(torch.arange(offset + start, offset + start + count))
                features.append(visual.features)
            offset += len(segment.ids)
        if not rows:
            return hidden_TD, None
        rows_V = torch.cat(rows).to(weight.device)
        features_VD = torch.cat(features, dim=1).to(weight)
        hidden_TD = hidden_TD.index_copy(0, rows_V, features_VD[0])
        deepstack = Deepstack(rows_V, features_VD[1:]) if self._num_deepstack else None
        return hidden_TD, deepstack
