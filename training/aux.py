"""Auxiliary supervision of the vision tower: what each visual token shows.

A small head on the merged tokens learns which character lies where, and which icon; it breaks the
plateau that answers alone stay on for long, and is thrown away after training.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from qzoom.data.scene import Scene
from qzoom.data.vocabulary import CODE_ALPHABET, COLOURS, SHAPES
from training.pixels import CELL, Grid

SLOT_ROWS, SLOT_COLS = 2, 6
"""Places for a character within a token; six columns keep neighbours of a code apart."""

MAX_CODE_LENGTH = 4

PLACE_THIRDS = 3
"""Places are thirds of the picture's height and width, as in `vocabulary.PLACES`."""

MIN_READABLE_PX = 6.5
"""Characters below this size in the encoded picture are not asked for."""

IGNORE = -100
_SLOTS = SLOT_ROWS * SLOT_COLS
_COLOUR_INDEX = {name: index + 1 for index, name in enumerate(COLOURS)}
_SHAPE_INDEX = {name: index + 1 for index, name in enumerate(SHAPES)}
_CHAR_INDEX = {char: index + 1 for index, char in enumerate(CODE_ALPHABET)}


@dataclass(frozen=True, slots=True)
class AuxLabels:
    """Labels of one picture; 0 is background, IGNORE counts for nothing."""

    chars: NDArray[np.int64]
    """[V, slots]"""
    order: NDArray[np.int64]
    """[V, MAX_CODE_LENGTH] the character that is first, second ... of its code, where it lies in
    the token."""
    shapes: NDArray[np.int64]
    """[V]"""
    colours: NDArray[np.int64]
    """[V]"""


def aux_labels(scene: Scene, view_px: tuple[float, float, float, float], grid: Grid) -> AuxLabels:
    """Label the visual tokens of a view of a scene.

    Args:
        scene: What is drawn.
        view_px: The encoded part of the picture in source pixels.
        grid: (rows, columns) of its visual tokens.
    """
    rows, cols = grid
    chars = np.zeros((rows * SLOT_ROWS, cols * SLOT_COLS), dtype=np.int64)
    order = np.zeros((rows, cols, MAX_CODE_LENGTH), dtype=np.int64)
    shapes, colours = np.zeros(grid, dtype=np.int64), np.zeros(grid, dtype=np.int64)
    sx, sy = cols / (view_px[2] - view_px[0]), rows / (view_px[3] - view_px[1])
    for item in scene.items:
        readable = item.font_px * sy * CELL >= MIN_READABLE_PX
        for index, (char, x, y) in enumerate(item.char_centres_px()):
            r = int((y - view_px[1]) * sy * SLOT_ROWS // 1)
            c = int((x - view_px[0]) * sx * SLOT_COLS // 1)
            if 0 <= r < chars.shape[0] and 0 <= c < chars.shape[1]:
                label = _CHAR_INDEX[char] if readable else IGNORE
                chars[r, c] = order[r // SLOT_ROWS, c // SLOT_COLS, index] = label
        x0, x1 = ((v - view_px[0]) * sx for v in (item.icon_px[0], item.icon_px[2]))
        y0, y1 = ((v - view_px[1]) * sy for v in (item.icon_px[1], item.icon_px[3]))
        if not item.shape or not (0 <= (x0 + x1) / 2 < cols and 0 <= (y0 + y1) / 2 < rows):
            continue
        # The token of the icon's centre, and those whose own centre it covers.
        left, right = min(round(x0), int((x0 + x1) / 2)), max(round(x1), int((x0 + x1) / 2) + 1)
        top, bottom = min(round(y0), int((y0 + y1) / 2)), max(round(y1), int((y0 + y1) / 2) + 1)
        area = (slice(max(0, top), bottom), slice(max(0, left), right))
        shapes[area], colours[area] = _SHAPE_INDEX[item.shape], _COLOUR_INDEX[item.colour]
    by_token = chars.reshape(rows, SLOT_ROWS, cols, SLOT_COLS).transpose(0, 2, 1, 3)
    return AuxLabels(
        chars=by_token.reshape(rows * cols, _SLOTS),
        order=order.reshape(rows * cols, MAX_CODE_LENGTH),
        shapes=shapes.ravel(),
        colours=colours.ravel(),
    )


def place_labels(grid: Grid) -> NDArray[np.int64]:
    """Number of the place, row-major, that each visual token's centre lies in: [rows * cols]."""
    rows, cols = ((2 * np.arange(n) + 1) * PLACE_THIRDS // (2 * n) for n in grid)
    return (rows[:, None] * PLACE_THIRDS + cols[None]).ravel()


class AuxHead(nn.Module):
    """Read-out of characters, shapes and colours from visual tokens.

    Characters have two linear layers: where in the token they stand, and at which place of their
    code, which is how an answer reads them. Shapes and colours are told apart by the embeddings of
    their own words, so that a token that shows a red star lies near "red" and "star" from the
    start, and a question's words find it by similarity.

    Args:
        hidden_size: D, width of a visual token.
        word_id: Token id of a word of the vocabulary.
    """

    def __init__(self, hidden_size: int, word_id: Callable[[str], int]) -> None:
        super().__init__()
        self.chars = nn.Linear(hidden_size, _SLOTS * (len(CODE_ALPHABET) + 1))
        self.order = nn.Linear(hidden_size, MAX_CODE_LENGTH * (len(CODE_ALPHABET) + 1))
        self.place = nn.Linear(hidden_size, PLACE_THIRDS**2)
        self.background = nn.Parameter(torch.zeros(2))
        """Logits of "no shape" and "no colour"."""
        self.log_scale = nn.Parameter(torch.tensor(0.0))
        self.shape_ids = [word_id(name) for name in SHAPES]
        self.colour_ids = [word_id(name) for name in COLOURS]
        weight = torch.ones(len(CODE_ALPHABET) + 1)
        weight[0] = 0.1  # nearly every slot is empty
        self.char_weight = nn.Buffer(weight, persistent=False)

    def forward(
        self,
        tokens_VD: Tensor,
        labels: tuple[Tensor, Tensor, Tensor, Tensor],
        embeddings_CD: Tensor,
        order_weight: float = 0.0,
    ) -> Tensor:
        """Mean loss over valid tokens.

        Args:
            tokens_VD: Visual tokens.
            labels: (chars [V, slots], order [V, MAX_CODE_LENGTH], shapes [V], colours [V]).
            embeddings_CD: The decoder's input embeddings.
            order_weight: Weight of the place of characters in their code.
        """
        chars, order, shapes, colours = labels
        loss = self._characters(self.chars(tokens_VD), chars)
        if order_weight:
            loss = loss + order_weight * self._characters(self.order(tokens_VD), order)
        for index, (ids, label) in enumerate(
            ((self.shape_ids, shapes), (self.colour_ids, colours))
        ):
            near = tokens_VD @ embeddings_CD[ids].T * self.log_scale.exp()
            nothing = self.background[index].expand(len(near), 1)
            loss = loss + 0.5 * F.cross_entropy(torch.cat((nothing, near), dim=1), label)
        return loss

    def place_loss(self, states_VD: Tensor, places: Tensor) -> Tensor:
        """Do the decoder's states of the source picture's tokens know where the token lies?

        Args:
            states_VD: Hidden states.
            places: [V] as from `place_labels`.
        """
        return F.cross_entropy(self.place(states_VD), places)

    def _characters(self, logits: Tensor, labels: Tensor) -> Tensor:
        by_place = logits.reshape(labels.numel(), -1)
        return F.cross_entropy(
            by_place, labels.flatten(), weight=self.char_weight, ignore_index=IGNORE
        )
