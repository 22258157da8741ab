"""Recipes and runs that fit the tiny random models."""

import json

from training.stages.curve import read_curve
from training.stages.recipe import load_stage_recipe
from training.stages.run import StageRun


def recipe(family, *changes):
    values = [f"family={family}", "num_layers=6", "rpn.steps=6", "rpn.batch=4", "gate.steps=6"]
    values += ["gate.batch=4", "region_labels.max_new_tokens=4", "region_labels.max_tokens=16"]
    # A random model answers nothing right.
    values += ["region_labels.keep=all"]
    values += ["gate_labels.budgets=[4, 9, 16]", "gate_labels.draw_budgets=null"]
    values += ["gate_labels.max_new_tokens=4"]
    method = {"split_layer": 3, "gate_depth": 2, "rpn_depth": 2}
    if family == "llava":
        values += ["region_labels.max_tokens=null"]
    else:
        method |= {"coarse_min_tokens": 4, "coarse_max_tokens": 16}
        method |= {"roi_min_tokens": 4, "roi_max_tokens": 16}
    return load_stage_recipe("built-in-stages", [*values, f"method={json.dumps(method)}", *changes])


def run_of(checkpoints, labels, family, out, *changes, **values):
    return StageRun(
        model=checkpoints[family],
        labels=[labels[family]],
        out=out,
        recipe=recipe(family, *changes),
        **values,
    )


def losses(folder):
    return [float(row[1]) for row in read_curve(folder)]
