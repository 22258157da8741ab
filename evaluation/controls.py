"""What would be reached without looking? Figures that a real RPN and a real gate must beat."""

import math
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from evaluation.results import Result, centre_inside
from qzoom.data.record import FloatBox


def constant_box_recall(results: Sequence[Result], area: float) -> float | None:
    """Share of evidence centres in the best-placed box that is the same for all pictures.

    The box has the mean shape and place of the proposals and the given area, in parts of the
    picture.

    Args:
        results: Those with a box and with evidence.
        area: Share of the picture that the constant box covers.
    """
    known = [(r, r.box_px, r.evidence_px) for r in results if r.box_px and r.evidence_px]
    if not known:
        return None
    mean = np.mean([_relative(box, r.size_px) for r, box, _ in known], axis=0)
    width, height = mean[2] - mean[0], mean[3] - mean[1]
    scale = math.sqrt(area / max(width * height, 1e-9))
    width, height = min(1.0, width * scale), min(1.0, height * scale)
    x = float(np.clip((mean[0] + mean[2]) / 2, width / 2, 1 - width / 2))
    y = float(np.clip((mean[1] + mean[3]) / 2, height / 2, 1 - height / 2))
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    held = [centre_inside(_relative(evidence, r.size_px), box) for r, _, evidence in known]
    return sum(held) / len(held)


def _relative(box: FloatBox, size_px: tuple[int, int]) -> FloatBox:
    width, height = size_px
    return box[0] / width, box[1] / height, box[2] / width, box[3] / height


def balanced_accuracy(truths: Sequence[bool], guesses: Sequence[bool]) -> float | None:
    """Mean of the two classes' recalls; None where one of them does not occur."""
    pairs = list(zip(truths, guesses, strict=True))
    recalls = []
    for wanted in (True, False):
        of_class = [guess == wanted for truth, guess in pairs if truth == wanted]
        if not of_class:
            return None
        recalls.append(sum(of_class) / len(of_class))
    return sum(recalls) / 2


def words_accuracy(questions: Sequence[str], labels: Sequence[bool], *, seed: int = 0) -> float:
    """Balanced accuracy of a linear classifier on the question's words and pairs of words alone.

    Five-fold: every question is judged by a classifier that never saw it. Near .5 means that the
    wording gives nothing away.

    Args:
        questions: Their texts.
        labels: Whether each needs detail; both classes occur.
        seed: Of the folds.
    """
    features = _bag_of_words(questions)
    wanted = np.asarray(labels, dtype=bool)
    fold = np.random.default_rng(seed).permutation(len(questions)) % 5
    guesses = np.zeros(len(questions), dtype=bool)
    for held_out in range(5):
        train = fold != held_out
        weights = _ridge(features[train], wanted[train])
        guesses[~train] = features[~train] @ weights > 0
    found = balanced_accuracy(wanted.tolist(), guesses.tolist())
    if found is None:
        raise ValueError("all questions are of one class")
    return found


def _bag_of_words(questions: Sequence[str]) -> NDArray[np.float64]:
    terms = [_terms(question) for question in questions]
    column = {term: i for i, term in enumerate(sorted({t for own in terms for t in own}))}
    bag = np.zeros((len(questions), len(column) + 1))
    bag[:, -1] = 1.0
    for row, own in enumerate(terms):
        bag[row, [column[term] for term in own]] = 1.0
    return bag


def _terms(question: str) -> set[str]:
    words = re.findall(r"[a-z]+|\d", question.lower())
    return {*words, *(" ".join(pair) for pair in pairwise(words))}


def _ridge(features: NDArray[np.float64], wanted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Least squares on +-1 with a penalty, both classes of equal weight."""
    share = wanted.mean()
    weight = np.where(wanted, 1 / max(share, 1e-9), 1 / max(1 - share, 1e-9))
    weighted = features * weight[:, None]
    gram = weighted.T @ features + 10.0 * np.eye(features.shape[1])
    solved: NDArray[np.float64] = np.linalg.solve(gram, weighted.T @ np.where(wanted, 1.0, -1.0))
    return solved
