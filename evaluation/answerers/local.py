"""The pipeline in this process: the one place where a request's whole CPU time can be measured."""

import dataclasses
import platform
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.answerers.base import Asked, Outcome
from qzoom.contracts.sampling import Sampling
from qzoom.data.record import PictureSource
from qzoom.errors import InvalidRequest, QZoomError
from qzoom.model.config import Preset
from qzoom.model.decoder import Decoder
from qzoom.model.encoder import VisionEncoder
from qzoom.model.loading import Checkpoint, CheckpointError, open_checkpoint
from qzoom.model.pipeline import Answer, Pipeline, Question
from qzoom.model.prefill import PrefillGate
from qzoom.model.rpn import RegionProposer

CACHED_BYTES = 256 * 1024 * 1024
"""Decoded pictures that are kept, since one picture has many questions."""


class PictureCache:
    """Decodes pictures, and keeps the last ones."""

    def __init__(self, max_bytes: int = CACHED_BYTES) -> None:
        self._max_bytes, self._num_bytes = max_bytes, 0
        self._kept: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()

    def load(self, source: PictureSource) -> NDArray[np.uint8]:
        """Return [H, W, 3], RGB.

        Raises:
            QZoomError: If it cannot be decoded.
        """
        key = source.key
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        pixels = source.load()
        self._kept[key] = pixels
        self._num_bytes += pixels.nbytes
        while self._num_bytes > self._max_bytes and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._num_bytes -= old.nbytes
        return pixels


def open_pipeline(
    model: Path | str,
    *,
    preset: Preset | None = None,
    limits: tuple[int, int] | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    change: Callable[[Checkpoint], Checkpoint] | None = None,
) -> Pipeline:
    """Load a checkpoint with the token limits of a benchmark.

    Args:
        model: Checkpoint folder.
        preset: Variant of the method; None takes what the folder says.
        limits: (fewest, most) visual tokens of the coarse picture and of the RoI alike.
        device: Where to run.
        dtype: Of parameters and states.
        change: Applied to the opened checkpoint, for ablations.

    Raises:
        InvalidRequest: If the folder cannot be used.
    """
    try:
        checkpoint = open_checkpoint(model, preset=preset)
        if limits is not None:
            low, high = limits
            qzoom = dataclasses.replace(
                checkpoint.qzoom,
                coarse_min_tokens=low, coarse_max_tokens=high,
                roi_min_tokens=low, roi_max_tokens=high,
            )  # fmt: skip
            checkpoint = dataclasses.replace(checkpoint, qzoom=qzoom)
        if change is not None:
            checkpoint = change(checkpoint)
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        has_rpn = checkpoint.qzoom.has_rpn
        return Pipeline(
            checkpoint,
            VisionEncoder.load(checkpoint, **place),
            PrefillGate.load(checkpoint, **place),
            RegionProposer.load(checkpoint, **place) if has_rpn else None,
            Decoder.load(checkpoint, **place),
        )
    except (CheckpointError, ValueError) as error:
        raise InvalidRequest(f"{model} cannot be used: {error}") from None


class LocalAnswerer:
    """Answers in this process.

    Args:
        pipeline: The model.
        batch: Requests that run together.
        device: Where it runs, for the report.
    """

    def __init__(self, pipeline: Pipeline, *, batch: int = 8, device: str = "cpu") -> None:
        self.pipeline, self._batch, self._device = pipeline, batch, device
        self._pictures = PictureCache()

    def answer_all(self, questions: Iterable[Asked]) -> Iterator[Outcome]:
        """See `Answerer`; a batch that fails is asked again one by one."""
        waiting = iter(questions)
        while part := list(islice(waiting, self._batch)):
            try:
                yield from self._answer(part)
            except QZoomError:
                for question in part:
                    yield self._alone(question)

    def _alone(self, question: Asked) -> Outcome:
        try:
            return self._answer([question])[0]
        except QZoomError as error:
            return Outcome("", error=error.message)

    def _answer(self, part: Sequence[Asked]) -> list[Outcome]:
        requests = [
            Question(
                asked.conversation,
                [self._pictures.load(asked.picture)],
                asked.options,
                Sampling(max_tokens=asked.max_tokens),
            )
            for asked in part
        ]
        began, began_cpu = time.perf_counter(), time.process_time()
        answers = self.pipeline.answer_many(requests)
        if self._device.startswith("cuda"):
            torch.cuda.synchronize()
        cpu_s = (time.process_time() - began_cpu) / len(part)
        wall_s = time.perf_counter() - began if self._batch == 1 else None
        return [
            _outcome(answer, request.images[0], cpu_s, wall_s)
            for answer, request in zip(answers, requests, strict=True)
        ]

    def about(self) -> dict[str, Any]:
        """Model, machine and how it was run."""
        checkpoint = self.pipeline.checkpoint
        return {
            "model": checkpoint.path.name,
            "revision": checkpoint.revision,
            "family": checkpoint.family,
            "qzoom": checkpoint.qzoom.to_dict(),
            "machine": platform.machine(),
            "processor": processor_name(),
            "device": self._device,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "batch": self._batch,
        }


def processor_name() -> str:
    """Name of the CPU where the system tells it, else ""."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return platform.processor()
    names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.processor()


def _outcome(
    answer: Answer, pixels: NDArray[np.uint8], cpu_s: float, wall_s: float | None
) -> Outcome:
    height, width = pixels.shape[:2]
    return Outcome(
        text=answer.text,
        route=answer.route,
        p_refine=answer.p_refine,
        box_px=answer.proposal.box_px if answer.proposal else None,
        coarse_tokens=answer.num_coarse_tokens,
        roi_tokens=answer.num_roi_tokens,
        cpu_s=cpu_s,
        wall_s=wall_s,
        size_px=(width, height),
    )
