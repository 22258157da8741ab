"""Rival (a): transformers' generate on the whole picture in full resolution."""

from pathlib import Path

import torch

from benchmarks.plain import PlainModel
from benchmarks.servers.child import arguments, live, own_output
from benchmarks.servers.minimal import Job, Worker, serve
from qzoom.contracts.conversation import single_question
from qzoom.model.detokenize import Detokenizer
from qzoom.model.pipeline import Pipeline


def main() -> None:
    """Serve until the input ends.

    Arguments: `model`, the folder; `threads`; `max_batch`; `full_tokens`, the picture's budget.
    """
    messages, given = own_output(), arguments()
    pipeline = Pipeline.open(Path(given["model"]))
    plain = PlainModel(Path(given["model"]), pipeline)
    full_tokens, eos = int(given["full_tokens"]), set(pipeline.checkpoint.eos_ids)

    def answer(jobs: list[Job]) -> None:
        # OpenMP keeps the number for each thread that computes.
        torch.set_num_threads(int(given["threads"]))
        alone = jobs[0] if len(jobs) == 1 else None
        streamer = _Streamer(pipeline, alone, eos) if alone else None
        answers = plain.answer_many(
            [(single_question(job.question), job.picture) for job in jobs],
            max_tokens=max(job.max_tokens for job in jobs),
            max_visual_tokens=full_tokens,
            streamer=streamer,
        )
        if streamer is None:
            # transformers streams batches of one only.
            for job, ids in zip(jobs, answers, strict=True):
                own = [token for token in ids[: job.max_tokens] if token not in eos]
                job.send(str(pipeline.checkpoint.tokenizer.decode(own)))

    worker = Worker(answer, max_batch=int(given["max_batch"]))
    live(messages, serve(worker), {})


class _Streamer:
    """Sends tokens as transformers draws them; the first call brings the prompt."""

    def __init__(self, pipeline: Pipeline, job: Job, eos: set[int]) -> None:
        self._detokenizer = Detokenizer(pipeline.checkpoint.tokenizer, ())
        self._job, self._eos, self._is_prompt = job, eos, True

    def put(self, value: torch.Tensor) -> None:
        """Take the next token."""
        if self._is_prompt:
            self._is_prompt = False
            return
        token = int(value.flatten()[0])
        if token not in self._eos:
            text, _ = self._detokenizer.add(token)
            self._job.send(text)

    def end(self) -> None:
        """Send what was held back."""
        self._job.send(self._detokenizer.finish())


if __name__ == "__main__":
    main()
