"""The whole method in one process: the reference that the services must equal, token for token.

Requests are run stage by stage as one batch, which shows the method in the order of the paper:
encode coarse, prefill and gate, propose a region, encode it, resume, decode.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from qzoom.contracts.conversation import Conversation
from qzoom.contracts.options import Options
from qzoom.contracts.routing import wants_zoom
from qzoom.contracts.sampling import Sampling
from qzoom.contracts.stages import Proposal
from qzoom.model.cache import SlotCache
from qzoom.model.config import Preset
from qzoom.model.decoder import Decoder, ResumeInput, Roi
from qzoom.model.encoder import VisionEncoder
from qzoom.model.generation import Generation
from qzoom.model.images import Pixels
from qzoom.model.loading import Checkpoint, open_checkpoint
from qzoom.model.prefill import PrefillGate, PrefillInput, PrefillOutput
from qzoom.model.question import Answer, Question
from qzoom.model.rpn import RegionProposer, RpnInput, RpnOutput
from qzoom.model.sampling import draw_tokens
from qzoom.model.state import VisualTokens

__all__ = ["Answer", "Pipeline", "Question"]


class Pipeline:
    """The four stages of one checkpoint.

    Args:
        checkpoint: Where it came from.
        encoder: Stage 1.
        gate: Stage 2.
        rpn: Stage 3; None where the checkpoint has none, and every request goes direct.
        decoder: Stage 4.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        encoder: VisionEncoder,
        gate: PrefillGate,
        rpn: RegionProposer | None,
        decoder: Decoder,
    ) -> None:
        self.checkpoint = checkpoint
        self.encoder, self.gate, self.rpn, self.decoder = encoder, gate, rpn, decoder

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        preset: Preset | None = None,
    ) -> Self:
        """Load all stages of a checkpoint folder.

        Raises:
            CheckpointError: If the folder cannot be used.
        """
        checkpoint = open_checkpoint(path, preset=preset)
        has_rpn = checkpoint.qzoom.has_rpn
        return cls(
            checkpoint,
            VisionEncoder.load(checkpoint, device=device, dtype=dtype),
            PrefillGate.load(checkpoint, device=device, dtype=dtype),
            RegionProposer.load(checkpoint, device=device, dtype=dtype) if has_rpn else None,
            Decoder.load(checkpoint, device=device, dtype=dtype),
        )

    def answer(
        self,
        conversation: Conversation,
        images: Sequence[Pixels],
        options: Options | None = None,
        sampling: Sampling | None = None,
    ) -> Answer:
        """Answer one request.

        Raises:
            InvalidRequest: If the conversation, a picture or a budget is not acceptable.
        """
        question = Question(conversation, images, options or Options(), sampling or Sampling())
        return self.answer_many([question])[0]

    def answer_many(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer requests of any shapes and routes as one batch.

        Raises:
            InvalidRequest: If the conversation, a picture or a budget of one is not acceptable.
        """
        clock = _Clock()
        with clock.stage("encoder.coarse"):
            visuals = self._encode_coarse(questions)
        with clock.stage("gate.prefill"):
            prefills = self._prefill(questions, visuals)
        with clock.stage("rpn.propose"):
            proposed = self._propose(questions, prefills)
        with clock.stage("encoder.roi"):
            rois = self._encode_rois(questions, prefills, proposed, visuals)
        if not any(proposed):
            clock.forget("rpn.propose")
        if not any(rois):
            clock.forget("encoder.roi")
        return self._decode(questions, prefills, proposed, rois, clock)

    def _encode_coarse(self, questions: Sequence[Question]) -> list[list[VisualTokens]]:
        prepared = [
            self.encoder.prepare_coarse(image, question.options.max_visual_tokens)
            for question in questions
            for image in question.images
        ]
        encoded = iter(self.encoder.encode(prepared) if prepared else [])
        return [[next(encoded) for _ in question.images] for question in questions]

    def _prefill(
        self, questions: Sequence[Question], visuals: Sequence[Sequence[VisualTokens]]
    ) -> list[PrefillOutput]:
        inputs = []
        for question, own in zip(questions, visuals, strict=True):
            sizes_px = [(image.shape[1], image.shape[0]) for image in question.images]
            grids = [visual.grid for visual in own]
            prompt = self.gate.tokenize(question.conversation, grids, sizes_px)
            inputs.append(PrefillInput(prompt, own, question.options.route == "auto"))
        return self.gate.run(inputs)

    def _propose(
        self, questions: Sequence[Question], prefills: Sequence[PrefillOutput]
    ) -> list[RpnOutput | None]:
        wants = [
            bool(q.images) and wants_zoom(q.options.route, p.p_refine, self._tau_gate(q))
            for q, p in zip(questions, prefills, strict=True)
        ]
        if self.rpn is None or not any(wants):
            return [None] * len(questions)
        inputs = [
            RpnInput(p.state, q.options.tau_roi)
            for q, p, want in zip(questions, prefills, wants, strict=True)
            if want
        ]
        outputs = iter(self.rpn.run(inputs))
        return [next(outputs) if want else None for want in wants]

    def _encode_rois(
        self,
        questions: Sequence[Question],
        prefills: Sequence[PrefillOutput],
        proposed: Sequence[RpnOutput | None],
        visuals: Sequence[Sequence[VisualTokens]],
    ) -> list[Roi | None]:
        chosen = [output.proposal if output else None for output in proposed]
        prepared = [
            self.encoder.prepare_roi(
                question.images[proposal.image], proposal, question.options.max_roi_tokens
            )
            for question, proposal in zip(questions, chosen, strict=True)
            if proposal
        ]
        encoded = iter(self.encoder.encode(prepared) if prepared else [])
        return [
            _roi(proposal, next(encoded), _later(prefill, proposal, own)) if proposal else None
            for proposal, prefill, own in zip(chosen, prefills, visuals, strict=True)
        ]

    def _decode(
        self,
        questions: Sequence[Question],
        prefills: Sequence[PrefillOutput],
        proposed: Sequence[RpnOutput | None],
        rois: Sequence[Roi | None],
        clock: "_Clock",
    ) -> list[Answer]:
        num_tokens = [
            self.decoder.num_tokens(
                p.state.prompt, roi.proposal if roi else None, roi.grid if roi else None
            )
            for p, roi in zip(prefills, rois, strict=True)
        ]
        longest = max(n + q.sampling.max_tokens for n, q in zip(num_tokens, questions, strict=True))
        cache = self.decoder.new_cache(len(questions), longest)
        inputs = [
            ResumeInput(cache.alloc(), p.state, roi) for p, roi in zip(prefills, rois, strict=True)
        ]
        with clock.stage("llm.resume"):
            logits_RC = self.decoder.resume(cache, inputs)
        generations = [
            Generation(i.slot, q.sampling, self.checkpoint.tokenizer, self.checkpoint.eos_ids)
            for i, q in zip(inputs, questions, strict=True)
        ]
        with clock.stage("llm.decode"):
            texts = self._generate(cache, generations, logits_RC)
        return [
            Answer(
                text=text,
                ids=tuple(generation.ids),
                finish=generation.finish or "length",
                route="zoom" if roi else "direct",
                p_refine=prefill.p_refine,
                tau_gate=self._tau_gate(question),
                proposal=roi.proposal if roi else None,
                heatmap=output.heatmap if output else None,
                num_prompt_tokens=num_prompt,
                num_coarse_tokens=sum(h * w for h, w in _grids(prefill)),
                num_roi_tokens=roi.visual.num_tokens if roi and roi.visual else 0,
                stage_s=dict(clock.stage_s),
            )
            for question, prefill, output, roi, generation, text, num_prompt in zip(
                questions, prefills, proposed, rois, generations, texts, num_tokens, strict=True
            )
        ]

    def _generate(
        self, cache: SlotCache, generations: Sequence[Generation], logits_RC: Tensor
    ) -> list[str]:
        """Decode until every answer has ended, all running ones together."""
        texts = {generation.slot: "" for generation in generations}
        running = list(generations)
        while True:
            ids = draw_tokens(logits_RC, [generation.sampler for generation in running])
            for generation, token_id in zip(running, ids, strict=True):
                texts[generation.slot] += generation.add(token_id)
            running = [generation for generation in running if generation.finish is None]
            if not running:
                return [texts[generation.slot] for generation in generations]
            slots = [generation.slot for generation in running]
            last = [generation.ids[-1] for generation in running]
            logits_RC = self.decoder.step(cache, slots, last)

    def _tau_gate(self, question: Question) -> float:
        tau = question.options.tau_gate
        return self.checkpoint.qzoom.tau_gate if tau is None else tau


class _Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.stage_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.stage_s[name] = time.perf_counter() - start

    def forget(self, name: str) -> None:
        """Leave out a stage that had nothing to do."""
        del self.stage_s[name]


def _grids(prefill: PrefillOutput) -> list[tuple[int, int]]:
    return [span.grid for span in prefill.state.prompt.spans]


def _roi(proposal: Proposal, visual: VisualTokens, later: tuple[VisualTokens, ...]) -> Roi:
    return Roi(proposal, visual.grid, visual, later)


def _later(
    prefill: PrefillOutput, proposal: Proposal, visuals: Sequence[VisualTokens]
) -> tuple[VisualTokens, ...]:
    """Pictures behind the chosen one in the sequence; they are run again with the RoI."""
    order = [span.image for span in prefill.state.prompt.spans]
    return tuple(visuals[image] for image in order[order.index(proposal.image) + 1 :])
