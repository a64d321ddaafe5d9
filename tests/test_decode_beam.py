"""Several continuations at once equal one at a time; beams equal transformers' and an exhaustive search."""

from __future__ import annotations


import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

import workbench
from workbench.decode import Run, as_target
from workbench.decode.batch import WAIT, begin, elsewhere
from workbench.errors import ArgumentError, ModelError
from workbench.models import LM
from workbench.testing import tiny_lm

PROMPT = [5, 9, 3, 40, 7]
SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 128, "initializer_range": 0.2,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def lm() -> LM:
    torch.manual_seed(0)
    return workbench.wrap(AutoModelForCausalLM.from_config(LlamaConfig(**SIZES)))


@pytest.fixture(scope="module")
def compiled(lm: LM) -> object:
    return workbench.compile(lm, "dense", threads=1)


@pytest.fixture(params=["transformers", "compiled"])
def model(request: pytest.FixtureRequest, lm: LM, compiled: object) -> object:
    return lm if request.param == "transformers" else compiled


def alone(lm: LM, ids: list[int]) -> np.ndarray:
    with torch.no_grad():
        return lm.module(torch.tensor([ids])).logits[0, -1].numpy()


def start(model: object, copies: int, prompt: list[int] = PROMPT) -> tuple[object, Run]:
    run = Run(as_target(model), prompt)
    return begin(run, copies), run


@pytest.mark.parametrize("count", [1, 3, 12])
def test_a_batch_equals_separate_decoding(model: object, lm: LM, count: int) -> None:
    """With everything that can happen: waiting, duplicates, dropping, agreeing again; small trees and large ones."""
    random = np.random.default_rng(count)
    batch, _ = start(model, count)
    texts = [list(PROMPT) for _ in range(count)]
    for step in range(25):
        ids = random.integers(3, 97, len(texts))
        ids[random.random(len(texts)) < 0.2] = WAIT
        if step % 6 == 1:
            ids[:] = ids.max() if ids.max() > 0 else 11
        before = batch.logits.copy()
        logits = batch.forward(ids)
        for n, token in enumerate(ids.tolist()):
            if token == WAIT:
                assert np.array_equal(logits[n], before[n])
                continue
            texts[n].append(token)
            assert np.abs(logits[n] - alone(lm, texts[n])).max() < 2e-4
        assert batch.lengths.tolist() == [len(t) - len(PROMPT) for t in texts]
        if step % 4 == 3:
            rows = random.integers(0, len(texts), count).tolist()
            batch.select(rows)
            texts = [list(texts[r]) for r in rows]
        if step == 17:
            batch.select([0] * count)
            texts = [list(texts[0]) for _ in range(count)]


def test_a_compiled_batch_leaves_and_reuses_the_cache(compiled: object) -> None:
    batch, run = start(compiled, 2)
    batch.forward([7, 8])
    assert run.target.length == len(PROMPT)
    batch.forward([7, 7])
    batch.select([1])
    batch.forward([9])
    assert run.target.length == len(PROMPT) + 3  # one is left: it is the shared path
    assert run.trace.target_forwards == 1 + 3


def test_a_batch_counts_its_passes_and_keeps_the_prompts_cache(lm: LM) -> None:
    batch, run = start(lm, 4)
    batch.forward([3, 4, 5, 6])
    batch.forward([3, 4, WAIT, WAIT])
    assert run.trace.target_forwards == run.target.forwards == 3
    assert run.target.length == len(PROMPT)
    assert np.abs(run.target.forward([3]).logits[0] - alone(lm, [*PROMPT, 3])).max() < 2e-4


def test_what_happens_elsewhere_leaves_the_cache(model: object, lm: LM) -> None:
    batch, run = start(model, 3)
    batch.forward([3, 4, 5])
    with elsewhere(run.target):
        assert run.target.length == 0
        assert np.abs(run.target.forward([8, 9]).logits[-1] - alone(lm, [8, 9])).max() < 2e-4
    logits = batch.forward([6, 6, 6])
    for n, token in enumerate((3, 4, 5)):
        assert np.abs(logits[n] - alone(lm, [*PROMPT, token, 6])).max() < 2e-4


def test_a_batch_says_what_is_wrong(model: object) -> None:
    batch, run = start(model, 2)
    with pytest.raises(ArgumentError, match="2 tokens below 97, or -1"):
        batch.forward([1])
    with pytest.raises(ArgumentError, match="below 97"):
        batch.forward([1, 97])
    with pytest.raises(ArgumentError, match="each from 0 to 1"):
        batch.select([2])
    with pytest.raises(ArgumentError, match="at least one"):
        batch.select([])
    with pytest.raises(ArgumentError, match="copies=0"):
        begin(run, 0)
    full, _ = start(model, 1, [3] * 127)
    full.forward([4])
    with pytest.raises(ArgumentError, match="no room"):
        full.forward([4])


def test_waiting_beyond_a_window_is_refused() -> None:
    windowed = tiny_lm("mistral", sliding_window=8)
    batch, _ = start(windowed, 2)
    for _ in range(3):
        batch.forward([3, 4])
    with pytest.raises(ModelError, match="window of 8"):
        batch.forward([3, WAIT])
