"""Where an ablation's variants are made: labels once, then a branch for each, kept on disk."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from evaluation.ablation.schedule import Schedule
from evaluation.answerers.local import LocalAnswerer, open_pipeline, processor_name
from evaluation.dataset import DataSet, open_dataset
from evaluation.modes import Mode
from evaluation.results import Result
from evaluation.run import evaluate
from evaluation.summary import Summary, summarize
from qzoom.errors import InvalidRequest
from qzoom.model.loading import open_checkpoint
from qzoom.model.loading.weights import BRANCH_FILE
from training.labels.jobs import GateLabelJob, Machine, RegionLabelJob, run_here
from training.labels.shards import LabelFolder
from training.reading.reader import Heads
from training.stages.parts import merge
from training.stages.recipe import StageRecipe, load_stage_recipe
from training.stages.run import StageRun, train_gate, train_rpn
from training.stages.setup import open_for_stage

CLAIM_FILE = "workshop.json"
TRAIN_SEED = 90
"""Of the labelled pictures; the base model's own training starts from 0."""

Tell = Callable[[str], None]


class Workshop:
    """Everything that the ablations of one checkpoint share.

    Args:
        model: The checkpoint.
        recipe: Name of the stages' recipe.
        schedule: Sizes.
        folder: Where labels, variants and reports go.
        heads: Whose attention makes the labels; all heads of the second and third layer after the
            split where nothing is given and the recipe names none.
        test: Data set that variants are asked; "" takes the built-in test split.
        train: Data set that is labelled; "" takes built-in training pictures.
        tell: Told what is being done.

    Raises:
        InvalidRequest: If the folder holds variants of another checkpoint or schedule.
    """

    def __init__(
        self,
        model: Path,
        recipe: str,
        schedule: Schedule,
        folder: Path,
        *,
        heads: Heads | None = None,
        test: str = "",
        train: str = "",
        tell: Tell = lambda _: None,
    ) -> None:
        self.model, self.schedule, self.folder, self.tell = model, schedule, folder, tell
        self.recipe_name = recipe
        self.machine = Machine()
        self._heads, self._test = heads, test or "builtin:test"
        self._train = train or f"builtin:train?seed={TRAIN_SEED}&count={schedule.pictures}"
        folder.mkdir(parents=True, exist_ok=True)
        self._claim()

    def _claim(self) -> None:
        """Keep the folder for one checkpoint and schedule: finished variants are taken as they are.

        Raises:
            InvalidRequest: If it belongs to others, naming the field and both values.
        """
        wanted = {
            "revision": open_checkpoint(self.model).revision,
            "recipe": self.recipe_name,
            "schedule": self.schedule.name,
            "train": self._train,
        }
        file = self.folder / CLAIM_FILE
        if not file.is_file():
            file.write_text(json.dumps(wanted, indent=1) + "\n")
            return
        stored = json.loads(file.read_text())
        for name, value in wanted.items():
            if stored.get(name) != value:
                raise InvalidRequest(
                    f"{self.folder} holds variants made with {name} {stored.get(name)!r}, asked "
                    f"for is {value!r}; give another folder"
                )

    def recipe(self, changes: Sequence[str] = ()) -> StageRecipe:
        """The recipe with the schedule's steps and some changes."""
        steps = [f"rpn.steps={self.schedule.rpn_steps}", f"gate.steps={self.schedule.gate_steps}"]
        return load_stage_recipe(self.recipe_name, [*steps, *changes])

    def about(self) -> dict[str, Any]:
        """What a report must say."""
        return {
            "model": self.model.name,
            "revision": open_checkpoint(self.model).revision,
            "processor": processor_name(),
            "threads": torch.get_num_threads(),
            "recipe": self.recipe_name,
            "schedule": dataclasses.asdict(self.schedule),
            "train": self._train,
            "test": self._test,
        }

    def data(self, questions: int | None = None) -> DataSet:
        """Test questions, the same for every variant."""
        return open_dataset(self._test, questions=questions or self.schedule.questions)

    def plain_base(self) -> Path:
        """The checkpoint without branches, so that variants may split and look as they like."""
        target = self.folder / "base"
        if not (target / "config.json").is_file():
            target.mkdir(parents=True, exist_ok=True)
            for file in self.model.iterdir():
                if file.name not in {"config.json", BRANCH_FILE} and file.is_file():
                    shutil.copyfile(file, target / file.name)
            config = json.loads((self.model / "config.json").read_text())
            config.pop("qzoom", None)
            (target / "config.json").write_text(json.dumps(config, indent=2))
        return target

    def labels(self) -> Path:
        """Attention of the base model's own answers, made once."""
        out, recipe = self.folder / "labels", self.recipe()
        heads = self._heads
        if heads is None and not recipe.region_labels.modes:
            split = int(recipe.method["split_layer"])
            heads = {split + 1: [], split + 2: []}
        job = RegionLabelJob(
            model=self.plain_base(), data=self._train, out=out, recipe=recipe, heads=heads,
            machine=self.machine,
        )  # fmt: skip
        for done, total in run_here(job):
            self.tell(f"labels {done}/{total}")
        return out

    def subset(self, name: str, shards: int) -> Path:
        """The first shards of the labels as a folder of their own."""
        source, out = LabelFolder.open(self.labels()), self.folder / name
        copy = LabelFolder.create(out, {**source.job, "shards": shards, "part_of": name})
        for number in copy.missing():
            for index, shard in enumerate(source.read()):
                if index == number:
                    copy.write(number, shard)
        return out

    def rpn(self, name: str, changes: Sequence[str] = (), labels: Path | None = None) -> Path:
        """Train one RPN and put it on the base.

        Args:
            name: Of the variant; a finished one of that name is taken as it is.
            changes: To the recipe.
            labels: Label folder; the shared one if not given.

        Returns:
            The checkpoint.
        """
        home = self.folder / "variants" / name
        target, plan = home / "model", self.recipe(changes)
        if (target / "config.json").is_file():
            return target
        self.tell(f"training {name}")
        base = self.plain_base()
        run = StageRun(
            model=base, labels=[labels or self.labels()], out=home / "run", recipe=plan,
            resume=(home / "run").is_dir(), machine=self.machine,
        )  # fmt: skip
        train_rpn(run)
        merge(open_for_stage(base, plan), [home / "run"], target)
        return target

    def gate_labels(self) -> Path:
        """Answers along the trajectory of resolutions, made once."""
        out = self.folder / "gate-labels"
        job = GateLabelJob(
            model=self.plain_base(), data=self._train, out=out, recipe=self.recipe(),
            machine=self.machine,
        )  # fmt: skip
        for done, total in run_here(job):
            self.tell(f"gate labels {done}/{total}")
        return out

    def gate(self, name: str, changes: Sequence[str] = ()) -> Path:
        """Train one gate and put it on the checkpoint, beside the RPN that is there.

        Args:
            name: Of the variant; a finished one of that name is taken as it is.
            changes: To the recipe.

        Returns:
            The checkpoint.
        """
        home = self.folder / "variants" / name
        target, plan = home / "model", self.recipe(changes)
        if (target / "config.json").is_file():
            return target
        self.tell(f"training {name}")
        run = StageRun(
            model=self.model, labels=[self.gate_labels()], out=home / "run", recipe=plan,
            resume=(home / "run").is_dir(), machine=self.machine,
        )  # fmt: skip
        train_gate(run)
        merge(open_for_stage(self.model, plan), [home / "run"], target)
        return target

    def ask(
        self, model: Path, mode: Mode, *, data: DataSet | None = None, batch: int = 8
    ) -> list[Result]:
        """Ask a variant the test questions."""
        self.tell(
            f"asking {model.parent.name if model.name == 'model' else model.name}: {mode.name}"
        )
        answerer = LocalAnswerer(open_pipeline(model), batch=batch)
        return list(evaluate(answerer, data or self.data(), mode))

    def summary(self, model: Path, mode: Mode) -> Summary:
        """Ask a variant, in figures."""
        return summarize(self.ask(model, mode))
