"""Exact match on fresh pictures.

An answer counts if every token of it, end token included, is the model's first choice given the
ones before: that is the case exactly when greedy decoding writes the answer.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch

from qzoom.data.splits import Split, scene_seed
from training.batch import Forward, collate
from training.layout import IGNORE, Prompts
from training.modes import Budgets, Mode, Sample, make_sample

Tally = dict[str, tuple[int, int]]
"""Name of a group -> (right, asked)."""


@torch.no_grad()
def exact_match(
    forward: Forward, samples: Sequence[Sample], prompts: Prompts, window_cells: int
) -> Tally:
    """Share of exactly right answers per question group.

    Args:
        forward: The model.
        samples: What to answer.
        prompts: Token ids of the template.
        window_cells: Side of the vision tower's window in visual tokens.
    """
    batch = collate(samples, prompts, window_cells)
    visual = torch.cat([forward.visual_tokens(group) for group in batch.vision])
    logits, labels = forward.answers(batch, visual)
    right = (logits.argmax(-1) == labels).tolist()
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    at = 0
    for sample in samples:
        for index, segment in enumerate(sample.tree.segments):
            length = sum(label != IGNORE for label in segment.labels)
            if not length:
                continue
            question = sample.asked[index]
            name = f"{question.group}/{question.kind}"
            counts[name][0] += all(right[at : at + length])
            counts[name][1] += 1
            at += length
    return {name: (hits, total) for name, (hits, total) in counts.items()}


def validate(
    forward: Forward,
    modes: Sequence[Mode],
    pictures: int,
    budgets: Budgets,
    prompts: Prompts,
    window_cells: int,
    split: Split = "val",
) -> dict[str, Tally]:
    """Exact match of every mode on the first pictures of a split."""
    results: dict[str, Tally] = {}
    for mode in modes:
        count = max(4, pictures // 4) if mode == "full" else pictures
        total: Tally = {}
        for start in range(0, count, 12):
            seeds = range(start, min(count, start + 12))
            samples = [
                make_sample(scene_seed(split, i), mode, prompts, budgets, plain=True) for i in seeds
            ]
            merge(total, exact_match(forward, samples, prompts, window_cells))
        results[mode] = total
    return results


def merge(total: Tally, more: Tally) -> None:
    """Add tallies in place."""
    for name, (hits, asked) in more.items():
        old = total.get(name, (0, 0))
        total[name] = (old[0] + hits, old[1] + asked)


def group_rates(tally: Tally) -> dict[str, float]:
    """Share of right answers by group ("detail", "print", "coarse"), kinds joined."""
    joined: Tally = {}
    for name, counts in tally.items():
        merge(joined, {name.partition("/")[0]: counts})
    return {name: hits / asked for name, (hits, asked) in sorted(joined.items()) if asked}
