"""AnyRes-style tiling: the whole picture, and all of its tiles, each at the coarse budget.

Every token of every tile goes through the language model, whatever the question: the brute force
that query-aware methods are measured against.
"""

from collections.abc import Sequence

from evaluation.answerers.base import Asked
from qzoom.contracts.conversation import Conversation, Picture, Turn
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.model.images import Pixels
from qzoom.model.pipeline import Answer, Pipeline, Question

MAX_TILES = 4


class Tiling:
    """The whole picture and its tiles, as several pictures of one question.

    Args:
        pipeline: The base model.
        max_tiles: Most tiles; the grid of at most so many that fits the picture's shape best.
    """

    name = "full-picture tiling (AnyRes style)"

    def __init__(self, pipeline: Pipeline, max_tiles: int = MAX_TILES) -> None:
        self._pipeline, self._max_tiles = pipeline, max_tiles

    def answer(self, pixels: Pixels, asked: Asked) -> Answer:
        """Answer from all tiles at once."""
        grid = tile_grid((pixels.shape[1], pixels.shape[0]), self._max_tiles)
        pictures = [pixels, *tiles(pixels, grid)]
        options = Options(route="direct", max_visual_tokens=asked.options.max_visual_tokens)
        conversation = with_pictures(asked.conversation, len(pictures))
        question = Question(conversation, pictures, options, Sampling(asked.max_tokens))
        return self._pipeline.answer_many([question])[0]


def tile_grid(size_px: tuple[int, int], max_tiles: int) -> tuple[int, int]:
    """(rows, columns) of the grid, among those of 2 to `max_tiles`, with the squarest tiles.

    Ties go to more tiles.
    """
    width, height = size_px
    grids = [
        (rows, columns)
        for rows in range(1, max_tiles + 1)
        for columns in range(1, max_tiles + 1)
        if 2 <= rows * columns <= max_tiles
    ]

    def unevenness(grid: tuple[int, int]) -> tuple[float, int]:
        shape = (width / grid[1]) / (height / grid[0])
        return round(max(shape, 1 / shape), 6), -grid[0] * grid[1]

    return min(grids, key=unevenness)


def tiles(pixels: Pixels, grid: tuple[int, int]) -> list[Pixels]:
    """Cut a picture, row by row, without overlap."""
    height, width = pixels.shape[:2]
    rows, columns = grid
    ys = [height * i // rows for i in range(rows + 1)]
    xs = [width * i // columns for i in range(columns + 1)]
    return [
        pixels[ys[r] : ys[r + 1], xs[c] : xs[c + 1]] for r in range(rows) for c in range(columns)
    ]


def with_pictures(conversation: Conversation, count: int) -> Conversation:
    """The same turns, with so many pictures in the place of the one."""
    first, *rest = conversation
    others = tuple(part for part in first.parts if not isinstance(part, Picture))
    pictures: Sequence[Picture] = [Picture(i) for i in range(count)]
    return (Turn(first.role, (*pictures, *others)), *rest)
