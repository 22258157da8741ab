"""One case through the real stages, compared at every point of which the reference speaks.

Decoding is fed the reference's tokens, so that one differing token does not hide the rest.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qzoom.contracts.budget import fetch_size
from qzoom.contracts.stages import ImageSpan, Prompt
from qzoom.model.components import component_boxes
from qzoom.model.config import Preset, RoiPositions
from qzoom.model.decoder import Decoder, ResumeInput, Roi
from qzoom.model.encoder import VisionEncoder, VisionInput
from qzoom.model.geometry import smooth
from qzoom.model.images import Preprocessor, open_preprocessor
from qzoom.model.images.qwen import QwenPreprocessor
from qzoom.model.loading import Checkpoint, open_checkpoint
from qzoom.model.positions import coarse_positions, zoom_tail
from qzoom.model.prefill import PrefillGate, PrefillInput, PrefillOutput
from qzoom.model.rpn import RegionProposer, RpnInput, RpnOutput
from qzoom.model.state import VisualTokens
from qzoom.model.verify.pictures import check_pixels
from qzoom.model.verify.report import CaseReport
from qzoom.model.verify.vectors import Case, VectorError

_LLAVA_PLACEHOLDER = -200
"""What the published code writes where the picture goes."""


@dataclass(frozen=True, slots=True)
class Tolerances:
    """Largest absolute deviations, from FORMAT.md of each family but for the gate's."""

    logits: float = 5e-5
    features: float = 5e-5
    gate: float = 2e-6
    """Twice FORMAT.md's: both codes were seen 7e-7 from the same sums in float64."""
    roi_logits: float = 1e-5
    """Or `_FLOAT32_NOISE` times the largest logit, if that is more."""
    smoothed: float = 1e-5
    positions: float = 1e-5


_FLOAT32_NOISE = 2e-6
"""Relative: the published code itself is about half as far from the same sums in float64."""

_QWEN, _LLAVA = Tolerances(), Tolerances(roi_logits=5e-5)


def verify_case(case: Case, preset: Preset | None = None) -> CaseReport:
    """Run one case and compare.

    Args:
        case: From `read_case`.
        preset: Variant of the method; None takes the checkpoint's (`released`).

    Raises:
        VectorError: If the case lacks something or asks for what is not supported.
        CheckpointError: If its checkpoint cannot be opened.
    """
    return _Verifier(case, _configure(case, preset)).run()


def _configure(case: Case, preset: Preset | None) -> Checkpoint:
    """Open the checkpoint with the case's own settings."""
    checkpoint = open_checkpoint(case.checkpoint, preset)
    if checkpoint.family == "llava":
        for key, supported in (("upscale_method", "mask"), ("roi_enable2stage", True)):
            if case.setting(key) != supported:
                raise VectorError(f"{case.name}.json has {key} {case.setting(key)!r}, not checked")
        return checkpoint
    if checkpoint.qzoom.roi_positions == "eq15":
        return checkpoint
    layout: RoiPositions = "interpolated" if case.setting("reuse_src_pos") else "sequential"
    config = dataclasses.replace(checkpoint.qzoom, roi_positions=layout)
    return dataclasses.replace(checkpoint, qzoom=config)


class _Verifier:
    def __init__(self, case: Case, checkpoint: Checkpoint) -> None:
        self.case, self.checkpoint = case, checkpoint
        self.is_llava = checkpoint.family == "llava"
        self.tolerances = _LLAVA if self.is_llava else _QWEN
        self.report = CaseReport(case.name)
        self.encoder = VisionEncoder.load(checkpoint)
        self.preprocessor: Preprocessor = open_preprocessor(checkpoint)
        if not self.is_llava:
            limits = int(case.number("min_pixels")), int(case.number("max_pixels"))
            self.preprocessor = QwenPreprocessor(checkpoint, limits)

    def run(self) -> CaseReport:
        visual = self._encode_coarse()
        if not all(check.is_good for check in self.report.checks if check.name == "grid"):
            return self.report  # the prompt is made for another number of tokens
        prompt = self._prompt(visual.grid)
        prefill = PrefillGate.load(self.checkpoint, with_prompts=False).run(
            [PrefillInput(prompt, [visual])]
        )[0]
        proposed = self._propose(prefill)
        wants_zoom = self._check_gate(prefill)
        roi = self._encode_roi(proposed) if wants_zoom and proposed else None
        self._check_path(wants_zoom, roi)
        if self.report.path != self.case.path:
            return self.report  # nothing behind this point can be compared
        self._check_sequence(prompt, roi)
        self._decode(prefill, roi)
        return self.report

    def _encode_coarse(self) -> VisualTokens:
        case = self.case
        height, width = case.source.shape[:2]
        self.report.exact("pictures", (width, height), case.setting("image_size_wh"))
        if not self.is_llava and self.checkpoint.qzoom.fetch_resize:
            self.report.exact(
                "pictures", fetch_size((width, height)), case.setting("fetch_resize_wh")
            )
        patches = self.preprocessor.coarse(case.whole)
        check_pixels(
            self.report, patches, case.coarse, case.pixels("pixel_values"), self.checkpoint
        )
        visual = self.encoder.encode([VisionInput(patches)])[0]
        if self.is_llava:
            self.report.exact("grid", visual.grid, case.setting("grid"))
            every = visual.features[0, ::24]
            expected = case.array("image_feats_every24")
            self.report.close("features", every, expected, self.tolerances.features)
        else:
            for grid_thw in (case.setting("image_grid_thw"), case.array("image_grid_thw")):
                self.report.exact("grid", [_patch_grid(visual)], grid_thw)
        return visual

    def _prompt(self, grid: tuple[int, int]) -> Prompt:
        case, count = self.case, grid[0] * grid[1]
        placeholder = int(self.checkpoint.hf_config.image_token_id)
        ids = case.array("input_ids").astype(np.int32)
        mark = _LLAVA_PLACEHOLDER if self.is_llava else placeholder
        marks = np.flatnonzero(ids == mark)
        if self.is_llava and len(marks) == 1:
            ids = np.insert(np.delete(ids, marks[0]), marks[0], [placeholder] * count)
        elif self.is_llava or not (
            len(marks) == count and np.array_equal(marks, np.arange(count) + marks[0])
        ):
            raise VectorError(
                f"{case.name}.npz: input_ids do not hold one picture of {count} cells"
            )
        self._check_vocabulary("input_ids", ids)
        start = int(marks[0])
        height, width = case.source.shape[:2]
        spans = (ImageSpan(0, start, grid, (width, height)),)
        positions = coarse_positions(len(ids), spans, mrope=not self.is_llava)
        if not self.is_llava:
            self.report.exact("ids", start, case.setting("image_token_start"))
            expected = case.array("pos_before")
            self.report.close("positions", positions, expected, self.tolerances.positions)
        return Prompt(ids, positions, spans)

    def _check_vocabulary(self, name: str, ids: NDArray[Any]) -> None:
        size = int(self.checkpoint.hf_config.get_text_config().vocab_size)
        if ((ids < 0) | (ids >= size)).any():
            raise VectorError(f"{self.case.name}.npz: {name} exceed the vocabulary of {size}")

    def _check_gate(self, prefill: PrefillOutput) -> bool:
        if prefill.p_refine is None:
            return True
        expected = self.case.number("gate_prob")
        self.report.close("gate", prefill.p_refine, expected, self.tolerances.gate)
        return prefill.p_refine >= self.case.number("gate_thresh")

    def _propose(self, prefill: PrefillOutput) -> RpnOutput | None:
        case, tolerances = self.case, self.tolerances
        if "roi_logits" not in case.arrays:
            if case.path != "direct_gate":
                raise VectorError(f"{case.name}.npz lacks roi_logits")
            return None
        tau, logits = case.number("roi_conf_thresh"), case.arrays["roi_logits"]
        output = RegionProposer.load(self.checkpoint).run([RpnInput(prefill.state, tau)])[0]
        found = output.maps[0]
        noise = _FLOAT32_NOISE * float(np.abs(logits).max(initial=0.0))
        allowed = max(tolerances.roi_logits, noise)
        self.report.close("roi logits", found.logits, logits, allowed)
        smoothed = case.array("smoothed")
        self.report.close("smoothed", found.smoothed, smoothed, tolerances.smoothed)
        if "prob_masked" in case.arrays:
            blurred = smooth(torch.from_numpy(case.arrays["prob_masked"]))
            self.report.close("smoothed", found.smoothed, blurred, tolerances.smoothed)
        if "sink_keep" in case.arrays:
            scores = case.arrays["sink_keep"] / (1 + np.exp(-found.logits))
            self.report.close("smoothed", scores, case.array("prob_masked"), tolerances.smoothed)
        if self.is_llava:
            mask = found.smoothed > np.float32(tau)
            self.report.exact("box", mask, case.array("mask"))
            boxes = np.array(component_boxes(mask), np.int64).reshape(-1, 4)
            for expected in (case.array("component_boxes"), case.setting("component_boxes")):
                self.report.exact("box", boxes, np.reshape(expected, (-1, 4)))
        return output

    def _encode_roi(self, proposed: RpnOutput) -> Roi | None:
        case, proposal = self.case, proposed.proposal
        if proposal is None:
            return None
        patches = self.preprocessor.roi(case.source, proposal.box_px)
        visual = self.encoder.encode([VisionInput(patches, proposal.kept)])[0]
        if case.crop is None:
            return Roi(proposal, visual.grid, visual)
        for key, box in (("bbox_cells", proposal.box_cells), ("bbox_pixels", proposal.box_px)):
            self.report.exact("box", box, case.array(key))
            self.report.exact("box", box, case.setting(key))
        check_pixels(
            self.report, patches, case.crop, case.pixels("crop_pixel_values"), self.checkpoint
        )
        tolerance = self.tolerances.features
        self.report.close("features", visual.features[0], case.array("roi_feats"), tolerance)
        if "roi_deepstack" in case.arrays:
            deepstack = case.arrays["roi_deepstack"]
            self.report.close("features", visual.features[1:], deepstack, tolerance)
        if self.is_llava:
            kept = np.arange(576) if proposal.kept is None else proposal.kept
            self.report.exact("box", kept, case.array("kept"))
        else:
            for grid_thw in (case.setting("roi_grid_thw"), case.array("roi_grid_thw")):
                self.report.exact("grid", [_patch_grid(visual)], grid_thw)
        return Roi(proposal, visual.grid, visual)

    def _check_path(self, wants_zoom: bool, roi: Roi | None) -> None:
        if self.is_llava:
            zoomed = "single_box" if roi and roi.proposal.kept is None else "mask"
            path = zoomed if roi else "no_roi"
        else:
            direct = "direct_empty_mask" if wants_zoom else "direct_gate"
            path = "roi" if roi else direct
        self.report.path = path
        self.report.exact("path", path, self.case.path)

    def _check_sequence(self, prompt: Prompt, roi: Roi | None) -> None:
        case, tolerance = self.case, self.tolerances.positions
        kept, ids, positions = len(prompt.ids), prompt.ids, prompt.positions
        inserted = 0
        if roi is not None:
            tail = zoom_tail(
                prompt,
                roi.proposal,
                roi.grid,
                self.checkpoint.qzoom,
                mrope=not self.is_llava,
            )
            kept = tail.kept
            inserted = kept + len(tail.ids) - len(ids)
            ids = np.concatenate([ids[:kept], tail.ids])
            positions = np.concatenate([positions[:, :kept], tail.positions], axis=1)
        if self.is_llava:
            self.report.exact("ids", len(ids), case.setting("length_after"))
            self.report.exact("ids", inserted, case.setting("roi_tokens"))
            if roi is not None:
                after = case.array("pos_after")
                self.report.close("positions", positions, np.tile(after, (3, 1)), tolerance)
        elif roi is not None:
            self.report.exact("ids", ids, case.array("ids_after"))
            self.report.close("positions", positions, case.array("pos_after"), tolerance)
            # vision_start, RoI and vision_end come after the source's own vision_end.
            is_new = np.zeros(len(ids), np.bool_)
            is_new[kept + 1 : kept + 1 + inserted] = True
            self.report.exact("ids", is_new, case.array("inserted"))

    def _decode(self, prefill: PrefillOutput, roi: Roi | None) -> None:
        generated: NDArray[Any] = self.case.array("generated_ids")
        expected = self.case.array("logits")
        self._check_vocabulary("generated_ids", generated)
        decoder = Decoder.load(self.checkpoint)
        length = len(prefill.state.prompt.ids) + (
            roi.visual.num_tokens + 2 if roi and roi.visual else 0
        )
        cache = decoder.new_cache(1, length + len(generated) + 1)
        slot = cache.alloc()
        rows = [decoder.resume(cache, [ResumeInput(slot, prefill.state, roi)])]
        rows += [decoder.step(cache, [slot], [int(token)]) for token in generated[:-1]]
        logits = torch.cat(rows)
        self.report.close("logits", logits, expected, self.tolerances.logits)
        for ids in (generated, self.case.setting("generated_ids")):
            self.report.exact("ids", logits.argmax(dim=-1), ids)


def _patch_grid(visual: VisualTokens) -> tuple[int, int, int]:
    """(t, h, w) in patches, as the Qwen processors count."""
    return (1, 2 * visual.grid[0], 2 * visual.grid[1])
