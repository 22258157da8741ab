"""Pack given questions about a given picture, as serving would see them: for measuring."""

from collections.abc import Sequence

from PIL import Image

from qzoom.data.questions import Question
from qzoom.data.scene import Scene
from training.boxes import to_pixels
from training.layout import CellBox, Prompts, Tree
from training.modes import Budgets, Sample, make_view
from training.pixels import token_grid


def pack_direct(
    scene: Scene,
    image: Image.Image,
    questions: Sequence[Question],
    prompts: Prompts,
    budgets: Budgets,
) -> Sample:
    """Each question alone on the direct route."""
    return _pack(scene, image, [(question, None) for question in questions], prompts, budgets)


def pack_zoom(
    scene: Scene,
    image: Image.Image,
    looks: Sequence[tuple[Question, CellBox]],
    prompts: Prompts,
    budgets: Budgets,
) -> Sample:
    """Each question alone on the zoom route, with a crop of its own."""
    return _pack(scene, image, list(looks), prompts, budgets)


def _pack(
    scene: Scene,
    image: Image.Image,
    looks: Sequence[tuple[Question, CellBox | None]],
    prompts: Prompts,
    budgets: Budgets,
) -> Sample:
    tree = Tree(prompts)
    size = (scene.width, scene.height)
    grid = token_grid(*size, budgets.min_tokens, budgets.max_tokens)
    views = [make_view(scene, image, (0, 0, *size), grid)]
    root = tree.add_image(grid, with_system=False)
    asked = {}
    for question, cells in looks:
        block = root
        if cells is not None:
            crop = to_pixels(cells, size, grid)
            sides = (crop[2] - crop[0], crop[3] - crop[1])
            roi = token_grid(*sides, budgets.roi_min_tokens, budgets.roi_max_tokens)
            views.append(make_view(scene, image.crop(crop), crop, roi))
            block = tree.add_roi(root, roi, cells)
        asked[tree.add_question(block, question.text, question.answer)] = question
    return Sample(tree, views, scene, image, asked)
