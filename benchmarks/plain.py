"""What does the model cost without the method? transformers' own generate, at its best.

The same weights, preprocessing, prompt, element type and threads; sdpa and a KV cache.
"""

from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoModelForImageTextToText

from qzoom.contracts.conversation import Conversation
from qzoom.model.images import Pixels
from qzoom.model.pipeline import Pipeline


class Streamer(Protocol):
    """Who receives tokens as they are drawn; transformers' own protocol."""

    def put(self, value: torch.Tensor) -> None:
        """Take tokens: first the prompt's, then one at a time."""
        ...

    def end(self) -> None:
        """Take notice that no more will come."""
        ...


class PlainModel:
    """transformers' model of a Qwen checkpoint.

    Args:
        folder: Of the checkpoint.
        pipeline: Gives the preprocessing and the tokenizer, so that both see the same tokens.
        dtype: Of the weights.
    """

    def __init__(
        self, folder: Path, pipeline: Pipeline, dtype: torch.dtype = torch.float32
    ) -> None:
        self._pipeline = pipeline
        self._image_token = int(pipeline.checkpoint.hf_config.image_token_id)
        model: Any = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, attn_implementation="sdpa"
        )
        self._model = model.eval()

    @torch.inference_mode()
    def answer(
        self,
        conversation: Conversation,
        picture: Pixels,
        *,
        max_tokens: int,
        max_visual_tokens: int | None = None,
        streamer: Streamer | None = None,
    ) -> tuple[int, ...]:
        """Answer one question greedily.

        Args:
            conversation: One picture.
            picture: [H, W, 3] RGB, uint8.
            max_tokens: Most tokens of the answer.
            max_visual_tokens: Budget of the picture; None takes the checkpoint's.
            streamer: Receives the tokens as they come.

        Returns:
            ids: The answer's tokens, with the one that ended it.
        """
        return self.answer_many(
            [(conversation, picture)],
            max_tokens=max_tokens,
            max_visual_tokens=max_visual_tokens,
            streamer=streamer,
        )[0]

    @torch.inference_mode()
    def answer_many(
        self,
        questions: list[tuple[Conversation, Pixels]],
        *,
        max_tokens: int,
        max_visual_tokens: int | None = None,
        streamer: Streamer | None = None,
    ) -> list[tuple[int, ...]]:
        """Answer several questions as one batch, padded on the left."""
        pipeline = self._pipeline
        prompts, pixels, grids = [], [], []
        for conversation, picture in questions:
            prepared = pipeline.encoder.prepare_coarse(picture, max_visual_tokens)
            grid, size = prepared.patches.grid, (picture.shape[1], picture.shape[0])
            prompts.append(pipeline.gate.tokenize(conversation, [grid], [size]).ids)
            pixels.append(torch.from_numpy(prepared.patches.pixel_values))
            grids.append((1, 2 * grid[0], 2 * grid[1]))
        longest = max(len(ids) for ids in prompts)
        pad = self._pipeline.checkpoint.tokenizer.pad_token_id or 0
        ids = torch.full((len(prompts), longest), pad)
        mask = torch.zeros_like(ids)
        for row, own in enumerate(prompts):
            ids[row, longest - len(own) :] = torch.from_numpy(own).long()
            mask[row, longest - len(own) :] = 1
        eos = pipeline.checkpoint.eos_ids
        drawn = self._model.generate(
            input_ids=ids,
            attention_mask=mask,
            pixel_values=torch.cat(pixels),
            image_grid_thw=torch.tensor(grids),
            mm_token_type_ids=(ids == self._image_token).int() * mask,
            max_new_tokens=max_tokens,
            do_sample=False,
            use_cache=True,
            eos_token_id=list(eos),
            pad_token_id=pad,
            streamer=streamer,
        )
        return [_until_end(row[longest:].tolist(), eos) for row in drawn]


def _until_end(ids: list[int], eos: tuple[int, ...]) -> tuple[int, ...]:
    """Cut off the padding behind the token that ended an answer."""
    for at, token in enumerate(ids):
        if token in eos:
            return tuple(ids[: at + 1])
    return tuple(ids)
