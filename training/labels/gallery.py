"""A contact sheet of RPN labels."""

from pathlib import Path

from PIL import Image

from qzoom.contracts.budget import fit_size
from qzoom.data.readers import Problems
from qzoom.data.records import open_records
from qzoom.errors import InvalidRequest
from training.labels.picture import draw_labels, sheet
from training.labels.regions import RegionRules, label_cells
from training.labels.rpn import read_samples
from training.labels.shards import LabelFolder

_CELL = 28


def gallery(
    path: Path, rules: RegionRules, first: int, count: int, coarse_tokens: int
) -> Image.Image:
    """Draw some questions' labels.

    Args:
        path: Label folder.
        rules: From attention to labels.
        first: Number of the first question.
        count: How many.
        coarse_tokens: Budget of the grid that the labels are drawn for.

    Raises:
        InvalidRequest: If there are fewer questions.
    """
    folder = LabelFolder.open(path)
    samples = list(read_samples(folder))[first : first + count]
    if not samples:
        raise InvalidRequest(f"{path} has no question number {first}")
    records = {record.id: record for record in open_records(folder.job["data"], Problems())}
    pictures = []
    for sample in samples:
        record = records[sample.id]
        pixels = record.picture.load()
        height, width = sample.evidence.attention.shape
        grid = (height, width)
        if folder.job["family"] != "llava" and height * width > coarse_tokens:
            size = (pixels.shape[1], pixels.shape[0])
            limits = (1, coarse_tokens * _CELL**2)
            columns, rows = (side // _CELL for side in fit_size(size, _CELL, limits))
            grid = (rows, columns)
        labels, _ = label_cells(sample.evidence, grid, rules)
        caption = f"{sample.question}  ->  {sample.response}"
        pictures.append(draw_labels(pixels, sample.evidence.attention, labels, caption))
    return sheet(pictures)
