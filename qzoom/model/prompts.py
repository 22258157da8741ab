"""Conversation to token ids: what exactly does the decoder read?

Renders the checkpoint's own chat template, replaces each picture's mark by as many placeholders
as the picture has cells, and keeps what users wrote from ever becoming a control token.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray

from qzoom.contracts.conversation import Conversation, Picture, Text, Turn
from qzoom.contracts.stages import ImageSpan
from qzoom.errors import InvalidRequest
from qzoom.model.loading import Checkpoint
from qzoom.model.templates import IMAGE_MARK

_PRIVATE_USE = range(0xF0000, 0xFFFFE)
"""Code points without a meaning of their own, to stand for characters that must stay text."""


class PromptBuilder:
    """Builds prompts for one checkpoint; safe to share between threads.

    Args:
        checkpoint: Gives tokenizer, chat template, placeholder id and default system turn.

    Raises:
        CheckpointError: If the checkpoint has no tokenizer.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._tokenizer = checkpoint.tokenizer
        self._default_system = checkpoint.qzoom.default_system
        self._image_mark = IMAGE_MARK[checkpoint.family]
        self._image_id = int(checkpoint.hf_config.image_token_id)
        # Vicuna's prompts start with one BOS; Qwen's have none.
        self._lead = [self._tokenizer.bos_token_id] if checkpoint.family == "llava" else []
        added = self._tokenizer.added_tokens_decoder.items()
        self._control = {token.content: index for index, token in added if token.special}
        marks = sorted({*self._control, self._image_mark}, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(re.escape(mark) for mark in marks) + ")")
        self._first_characters = sorted({mark[0] for mark in marks})

    def build(
        self,
        conversation: Conversation,
        grids: Sequence[tuple[int, int]],
        sizes_px: Sequence[tuple[int, int]],
    ) -> tuple[NDArray[np.int32], tuple[ImageSpan, ...]]:
        """Tokenise a conversation that ends with a user turn.

        Args:
            conversation: All turns; pictures refer to `grids`.
            grids: (H, W) in cells of each picture of the request.
            sizes_px: (width, height) of each source picture.

        Returns:
            ids: [T], int32; visual tokens hold the placeholder's id.
            spans: The pictures in the order of the sequence.

        Raises:
            InvalidRequest: If the conversation does not end with a user turn, a picture is in
                another's turn, unused or unknown, or the template refuses the turns.
        """
        if self._default_system is not None and not any(t.role == "system" for t in conversation):
            conversation = (Turn("system", (Text(self._default_system),)), *conversation)
        order = _check_turns(conversation, len(grids))
        masks = self._choose_masks(conversation)
        ids: list[int] = list(self._lead)
        spans: list[ImageSpan] = []
        for piece in self._split.split(self._render(conversation, masks)):
            if piece == self._image_mark:
                if len(spans) == len(order):
                    raise InvalidRequest("the chat template shows more pictures than were sent")
                image = order[len(spans)]
                height, width = grids[image]
                spans.append(ImageSpan(image, len(ids), (height, width), sizes_px[image]))
                ids += [self._image_id] * (height * width)
            elif piece in self._control:
                ids.append(self._control[piece])
            elif piece:
                ids += self._encode(piece.translate({ord(m): c for c, m in masks.items()}))
        if len(spans) != len(order):
            raise InvalidRequest("the chat template does not show all pictures of the request")
        return np.array(ids, np.int32), tuple(spans)

    def _choose_masks(self, conversation: Conversation) -> dict[str, str]:
        """Stand-ins that no user wrote, for every character that could begin a control token."""
        written = {c for turn in conversation for part in turn.parts for c in _text(part)}
        unused = (chr(code) for code in _PRIVATE_USE if chr(code) not in written)
        return dict(zip(self._first_characters, unused, strict=False))

    def _render(self, conversation: Conversation, masks: dict[str, str]) -> str:
        table = str.maketrans(masks)
        messages = [_message(turn, table) for turn in conversation]
        try:
            rendered = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:
            raise InvalidRequest(f"the chat template refuses these turns: {error}") from error
        assert isinstance(rendered, str)
        return rendered

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(
            text,
            add_special_tokens=False,
            split_special_tokens=True,
            verbose=False,  # whether the prompt fits is decided elsewhere
        )
        return ids


def _check_turns(conversation: Conversation, num_images: int) -> list[int]:
    """Return the picture of each mark, in the order of the sequence."""
    if not conversation or conversation[-1].role != "user":
        raise InvalidRequest("the last turn must be the user's")
    order: list[int] = []
    for turn in conversation:
        pictures = [part.index for part in turn.parts if isinstance(part, Picture)]
        if pictures and turn.role != "user":
            raise InvalidRequest(f"a {turn.role} turn holds a picture, only user turns may")
        order += pictures
    if sorted(order) != list(range(num_images)):
        raise InvalidRequest(
            f"the turns refer to the pictures {order}, each of {num_images} must appear once"
        )
    return order


def _message(turn: Turn, table: dict[int, str]) -> dict[str, Any]:
    if turn.role != "user":
        text = "".join(_text(part) for part in turn.parts)
        return {"role": turn.role, "content": text.translate(table)}
    content = [
        {"type": "image"}
        if isinstance(part, Picture)
        else {"type": "text", "text": part.text.translate(table)}
        for part in turn.parts
    ]
    return {"role": turn.role, "content": content}


def _text(part: Text | Picture) -> str:
    return part.text if isinstance(part, Text) else ""
