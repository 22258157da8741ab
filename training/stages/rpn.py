"""Train the RPN on labels that the model made itself (III-C-2).

Selective binary cross-entropy: every cell that is not ignored counts once; a batch' loss is the
mean over all of its cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from qzoom.data.record import Record
from qzoom.errors import InvalidRequest
from qzoom.model.loading import Checkpoint
from training.labels.judge import is_right
from training.labels.regions import FOREGROUND, IGNORE, RegionRules, label_cells
from training.labels.rpn import KIND, RegionSample, read_samples
from training.stages.branches import RpnBranch, by_picture
from training.stages.joining import group_by_picture, join, open_labels
from training.stages.recipe import RegionLabels
from training.stages.setup import base_revision
from training.stages.states import FrozenLower, PackedStates, StateStore


@dataclass(frozen=True, slots=True)
class RpnBatch:
    """Some questions with their labels.

    Attributes:
        states: After layer B.
        labels: For each picture [Q, V], in {0, 1}; meaningless where not valid.
        valid: For each picture [Q, V]: cells that are not ignored.
    """

    states: PackedStates
    labels: list[Tensor]
    valid: list[Tensor]


@dataclass(frozen=True, slots=True)
class RpnData:
    """Questions with their evidence, by picture.

    Attributes:
        groups: All questions of each picture.
        samples: (picture, number of the question in it, what the model looked at).
    """

    groups: list[list[Record]]
    samples: list[tuple[int, int, RegionSample]]


def read_rpn_data(
    folders: Sequence[Path],
    checkpoint: Checkpoint,
    settings: RegionLabels,
    data: str | None = None,
) -> tuple[RpnData, dict[str, Any]]:
    """Join label folders with their records.

    Args:
        folders: Of `qzoom label rpn`.
        checkpoint: Must be the model that made the labels.
        settings: Which questions are kept.
        data: Replaces the data set's name that the labels state (moved pictures).

    Returns:
        data: The samples.
        about: What identifies them.

    Raises:
        InvalidRequest: If model, labels and data do not fit, naming the field and both values, or
            if no question is kept.
    """
    revision = base_revision(checkpoint)
    pairs: list[tuple[Record, RegionSample]] = []
    about = []
    for path in folders:
        wanted = {"kind": KIND, "base_revision": revision, "rows": settings.rows}
        folder = open_labels(path, wanted)
        pairs += join(folder, read_samples(folder), data)
        about.append({k: folder.job[k] for k in ("data", "heads", "max_tokens", "suffix", "rows")})
    kept = [pair for pair in pairs if _is_kept(*pair, settings)]
    if not kept:
        raise InvalidRequest(
            f"none of {len(pairs)} questions is left with region_labels.keep = {settings.keep!r}"
        )
    about_all = {"labels": about, "base_revision": revision, "keep": settings.keep}
    return RpnData(*group_by_picture(kept)), about_all


def _is_kept(record: Record, sample: RegionSample, settings: RegionLabels) -> bool:
    if settings.keep == "all" or not record.answers:
        return True
    return is_right(sample.response, record.answers, settings.match, settings.anls)


class RpnTask:
    """See `training.stages.loop.Task`.

    Args:
        branch: What is trained.
        frozen: Everything below it.
        data: The samples.
        rules: From attention to labels.
        cache_mb: Memory for states.
    """

    name = "rpn"

    def __init__(
        self,
        branch: RpnBranch,
        frozen: FrozenLower,
        data: RpnData,
        rules: RegionRules,
        cache_mb: int,
    ) -> None:
        self.branch, self._samples, self._rules = branch, data.samples, rules
        self.parameters = branch.canonical()
        self.pictures = [picture for picture, _, _ in data.samples]
        self._store = StateStore(frozen, data.groups, cache_mb * 2**20)
        self._frozen = frozen

    def prepare(self, numbers: Sequence[int], step: int) -> RpnBatch:
        """Gather samples."""
        del step
        chosen, labels, valid = [], [], []
        for picture, own in by_picture(self.pictures, numbers):
            states = self._store.get(picture)
            chosen.append((states, [self._samples[n][1] for n in own]))
            cells = [
                torch.from_numpy(
                    label_cells(self._samples[n][2].evidence, states.span.grid, self._rules)[0]
                ).flatten()
                for n in own
            ]
            stacked = torch.stack(cells).to(self._frozen.device)
            labels.append((stacked == FOREGROUND).float())
            valid.append(stacked != IGNORE)
        return RpnBatch(self._frozen.pack(chosen), labels, valid)

    def weight(self, prepared: RpnBatch) -> float:
        """Cells that are not ignored."""
        return float(sum(int(valid.sum()) for valid in prepared.valid))

    def loss(self, prepared: RpnBatch) -> Tensor:
        """Binary cross-entropy, summed over cells that are not ignored."""
        logits = self.branch(prepared.states)
        terms = [
            functional.binary_cross_entropy_with_logits(
                found[valid], labels[valid], reduction="sum"
            )
            for found, labels, valid in zip(logits, prepared.labels, prepared.valid, strict=True)
        ]
        return torch.stack(terms).sum()
