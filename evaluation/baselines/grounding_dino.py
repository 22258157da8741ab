"""Crop what GroundingDINO finds for the question's words (Table V, rows 2 and 3).

The detector's weights are not ours to ship: a local folder of them is given, as transformers saves
it. It sees the picture for itself, so nothing is shared with the language model.
"""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

from evaluation.answerers.base import Asked
from evaluation.baselines.rival import SecondLook, device_of, grown, record_of
from qzoom.contracts.stages import Box
from qzoom.errors import InvalidRequest
from qzoom.model.images import Pixels
from qzoom.model.pipeline import Answer, Pipeline

THRESHOLD = 0.25


class GroundingDino:
    """An open-vocabulary detector as a region proposal.

    Args:
        pipeline: The base model.
        weights: Folder of a GroundingDINO checkpoint.
        boxes: Keep so many of the best boxes; one region is laid around them.
        threshold: Boxes below this score are dropped, in (0, 1).

    Raises:
        InvalidRequest: If the folder holds no such checkpoint.
    """

    def __init__(
        self, pipeline: Pipeline, weights: Path, *, boxes: int = 1, threshold: float = THRESHOLD
    ) -> None:
        self._second, self._boxes, self._threshold = SecondLook.over(pipeline), boxes, threshold
        self._min_side_px = pipeline.checkpoint.qzoom.min_side_px
        self._device = device_of(pipeline)
        try:
            processors: Any = AutoProcessor
            models: Any = AutoModelForZeroShotObjectDetection
            self._processor = processors.from_pretrained(weights, local_files_only=True)
            model = models.from_pretrained(weights, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise InvalidRequest(
                f"{weights} holds no GroundingDINO checkpoint: {str(error)[:200]}"
            ) from None
        self._model = model.eval().to(self._device)

    @property
    def name(self) -> str:
        """In tables."""
        return f"GroundingDINO ({self._boxes} box{'es' * (self._boxes > 1)})"

    def answer(self, pixels: Pixels, asked: Asked) -> Answer:
        """Detect, look there, answer; directly where nothing is found."""
        return self._second.look(pixels, asked, self.region(pixels, asked))

    @torch.inference_mode()
    def region(self, pixels: Pixels, asked: Asked) -> Box | None:
        """Box around the best detections; None without any."""
        # The detector expects lower case and a full stop behind each phrase.
        text = record_of(asked).question.splitlines()[0].strip().rstrip("?.").lower() + "."
        inputs = self._processor(images=Image.fromarray(pixels), text=text, return_tensors="pt")
        inputs = inputs.to(self._device)
        outputs = self._model(**inputs)
        size_px = (pixels.shape[1], pixels.shape[0])
        [found] = self._processor.post_process_grounded_object_detection(
            outputs, inputs["input_ids"], threshold=self._threshold, text_threshold=0.0,
            target_sizes=[(size_px[1], size_px[0])],
        )  # fmt: skip
        order = found["scores"].argsort(descending=True)[: self._boxes]
        if not len(order):
            return None
        boxes = found["boxes"][order].cpu()
        low, high = boxes[:, :2].amin(dim=0).tolist(), boxes[:, 2:].amax(dim=0).tolist()
        return grown([*low, *high], size_px, self._min_side_px)
