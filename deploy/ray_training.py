"""Labels by Ray Data and stages by Ray Train: the same code as one worker runs, on many.

Model, data, label and run folders must be at the same paths on every node. Nodes are those of the
cluster at RAY_ADDRESS, or this machine alone.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray import data as ray_data
from ray import train as ray_train
from ray.train.torch import TorchTrainer

from qzoom.errors import InvalidRequest, Unavailable
from training.labels.jobs import LabelJob
from training.labels.shards import LabelFolder
from training.stages.run import StageRun, Train
from training.stages.setup import base_revision, open_for_stage

_FAILURES = 3
"""How often Ray Train starts a run again from its last checkpoint."""


@dataclasses.dataclass(frozen=True, slots=True)
class Workers:
    """How many processes, and what each may use.

    Attributes:
        count: Processes.
        num_cpus: CPU cores of each.
        num_gpus: GPUs of each, 0 or 1.
    """

    count: int
    num_cpus: int = 1
    num_gpus: int = 0


class _ShardMaker:
    """A Ray Data actor: loads the model once, then makes shards."""

    def __init__(self, job: LabelJob, description: dict[str, Any], place: str) -> None:
        os.chdir(place)  # relative paths mean what they mean to the user
        self._folder = LabelFolder(job.out, description)
        self._make = job.worker()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        number = int(row["shard"])
        self._folder.write(number, self._make(number))
        return {"shard": number}


def label_with_ray(job: LabelJob, workers: Workers) -> Iterator[tuple[int, int]]:
    """Make missing shards on several workers.

    Yields:
        (shards done, shards in all), first before any work.

    Raises:
        InvalidRequest: If the label folder holds other labels.
        Unavailable: If the cluster has not the resources.
    """
    folder = LabelFolder.create(job.out, job.describe())
    missing, total = folder.missing(), int(folder.job["shards"])
    yield total - len(missing), total
    if not missing:
        return
    with _Cluster(workers):
        # One block a shard: the workers may hold all CPUs, so nothing else may need a task.
        rows = ray_data.from_items(
            [{"shard": number} for number in missing], override_num_blocks=len(missing)
        )
        made = rows.map(
            _ShardMaker,  # type: ignore[arg-type] # Ray's types know no class with arguments
            fn_constructor_args=(job, dict(folder.job), str(Path.cwd())),
            concurrency=min(workers.count, len(missing)),
            num_cpus=workers.num_cpus,
            num_gpus=workers.num_gpus,
        )
        for done, _ in enumerate(made.iter_rows(), start=total - len(missing) + 1):
            yield done, total


def train_with_ray(run: StageRun, train: Train, workers: Workers) -> None:
    """Train a stage on several workers, each with its part of every batch.

    A worker that dies takes the others with it; Ray starts them again from the last checkpoint.

    Raises:
        InvalidRequest: If model, recipe and labels do not fit, or the run's folder holds a run and
            `resume` was not asked for.
        Unavailable: If the cluster has not the resources, or training failed time and again.
    """
    _check(run)
    if workers.num_gpus:
        run = dataclasses.replace(run, machine=dataclasses.replace(run.machine, device="cuda"))
    resumed, place = dataclasses.replace(run, resume=True), str(Path.cwd())

    def work() -> None:
        os.chdir(place)
        train(resumed)

    with _Cluster(workers):
        trainer = TorchTrainer(
            work,
            scaling_config=ray_train.ScalingConfig(
                num_workers=workers.count,
                use_gpu=workers.num_gpus > 0,
                resources_per_worker={"CPU": workers.num_cpus},
            ),
            run_config=ray_train.RunConfig(
                name=run.out.name,
                storage_path=str(run.out.absolute() / "ray"),
                failure_config=ray_train.FailureConfig(max_failures=_FAILURES),
            ),
        )
        try:
            trainer.fit()
        except ray_train.TrainingFailedError as error:
            last = str(error).strip().splitlines()[-1]
            raise Unavailable(f"training failed on a worker: {last}") from error


def _check(run: StageRun) -> None:
    """Refuse here what every worker would refuse, in one line."""
    if not run.resume and list(run.out.glob("step-????????")):
        raise InvalidRequest(f"{run.out} holds a run; --resume goes on with it")
    revision = base_revision(open_for_stage(run.model, run.recipe))
    for path in run.labels:
        found = LabelFolder.open(path).job["base_revision"]
        if found != revision:
            raise InvalidRequest(
                f"base_revision is {found!r} in {path}, but {revision!r} in {run.model}"
            )


class _Cluster:
    """Joins a cluster, or starts one here and ends it."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._is_own = False

    def __enter__(self) -> None:
        if not ray.is_initialized():
            address = os.environ.get("RAY_ADDRESS")
            ray.init(address=address, include_dashboard=False, log_to_driver=False)
            self._is_own = True
        ask_resources: Callable[[], dict[str, float]] = ray.cluster_resources
        have = ask_resources()
        for name, wanted in (("CPU", self._workers.num_cpus), ("GPU", self._workers.num_gpus)):
            found, need = have.get(name, 0.0), wanted * self._workers.count
            if found < need:
                self.__exit__()
                raise Unavailable(f"the cluster has {found:g} {name}, {need} are needed")

    def __exit__(self, *_: object) -> None:
        if self._is_own:
            ray.shutdown()
