"""Rival (b): the method in one process behind the minimal server, one request at a time."""

from pathlib import Path

import torch

from benchmarks.servers.child import arguments, live, own_output
from benchmarks.servers.minimal import Job, Worker, serve
from qzoom.contracts.conversation import single_question
from qzoom.contracts.options import Options
from qzoom.contracts.sampling import Sampling
from qzoom.model.pipeline import Pipeline


def main() -> None:
    """Serve until the input ends.

    Arguments: `model`, the folder; `threads` of torch; `workers` that answer side by side.
    """
    messages, given = own_output(), arguments()
    pipeline = Pipeline.open(Path(given["model"]))

    def answer(jobs: list[Job]) -> None:
        torch.set_num_threads(int(given["threads"]))
        for job in jobs:
            answered = pipeline.answer(
                single_question(job.question),
                [job.picture],
                Options(**job.method),
                Sampling(max_tokens=job.max_tokens),
            )
            job.send(answered.text)

    worker = Worker(answer, max_batch=1, threads=int(given["workers"]))
    live(messages, serve(worker), {})


if __name__ == "__main__":
    main()
