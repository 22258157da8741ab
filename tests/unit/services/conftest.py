"""A real decoder with random weights, states that it can resume from, schedulers and their jobs."""

import asyncio
import time

import numpy as np
import pytest
import torch

from qzoom.contracts.conversation import single_question
from qzoom.contracts.sampling import Sampling
from qzoom.model.pipeline import Pipeline
from qzoom.model.prefill import PrefillInput
from qzoom.model.random_checkpoint import write_random_checkpoint
from qzoom.serving.prefixes import PrefixCache
from services.llm.job import Job, Prefix
from services.llm.mailbox import Mailbox
from services.llm.progress import Bounds
from services.llm.scheduler import Scheduler

SOON_S = 20.0
MAX_LEN = 96
ENDLESS = 10_000
BUDGET = {"coarse_min_tokens": 4, "coarse_max_tokens": 16}


@pytest.fixture(scope="session")
def small_pipeline(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("services") / "random"
    write_random_checkpoint(folder, "qwen2_5_vl", **BUDGET)
    return Pipeline.open(folder)


@pytest.fixture(scope="session")
def prefilled(small_pipeline):
    """Prefill a question: `prefilled("What?")` -> state."""
    picture = np.zeros((56, 56, 3), np.uint8)

    def run(question):
        encoder, gate = small_pipeline.encoder, small_pipeline.gate
        (visual,) = encoder.encode([encoder.prepare_coarse(picture)])
        prompt = gate.tokenize(single_question(question), [visual.grid], [(56, 56)])
        return gate.run([PrefillInput(prompt, [visual])])[0].state

    return run


@pytest.fixture
def decoder(small_pipeline):
    return small_pipeline.decoder


@pytest.fixture
def scheduler(decoder, small_pipeline):
    """Make a scheduler: `scheduler(max_slots, max_waiting)`. Nothing ends an answer early."""
    made = []

    def build(max_slots=4, max_waiting=8, *, reuse_bytes=0, chunk_tokens=ENDLESS):
        made.append(
            Scheduler(
                decoder,
                decoder.new_cache(max_slots, MAX_LEN),
                small_pipeline.checkpoint.tokenizer,
                eos_ids=(),
                prefixes=PrefixCache(reuse_bytes, lambda kv: kv.nbytes),
                bounds=Bounds(ENDLESS, chunk_tokens, max_waiting),
                on_thread_start=lambda: torch.set_num_threads(1),
            )
        )
        return made[-1]

    yield build
    for one in made:
        one.close(SOON_S)


@pytest.fixture
def job(prefilled):
    """Make a job: `job("What?", max_tokens)`; with a key its picture's block can be shared."""

    def build(question="What?", max_tokens=5, *, deadline_s=SOON_S, key=None):
        state = prefilled(question)
        return Job(
            state=state,
            roi=None,
            num_tokens=len(state.prompt.ids),
            sampling=Sampling(max_tokens=max_tokens),
            deadline=time.time() + deadline_s,
            mailbox=Mailbox(asyncio.get_running_loop()),
            **({} if key is None else {"prefix": Prefix((key,), state.prompt.block_ends)}),
        )

    return build
