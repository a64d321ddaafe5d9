"""Targets: a tree's logits are those of its paths, token by token; kept tokens stay, dropped ones leave nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import workbench
from workbench.decode import CompiledTarget, Target, TransformersTarget, as_target
from workbench.decode.target import visible
from workbench.errors import ArgumentError, ModelError
from workbench.models import LM
from workbench.testing import tiny_lm

FAMILIES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "olmo2", "smollm3", "gpt2", "gpt_neox", "opt")
COMPILED = ("llama", "mistral", "qwen3", "smollm3")
PROMPT = (5, 9, 13, 40)
TREE = (7, 8, 9, 11, 12, 13, 14)
PARENTS = (-1, -1, 0, 0, 1, 2, 2)
DEEPEST = [0, 2, 5]


def model(family: str, **changes: Any) -> LM:
    return tiny_lm(family, **({"sliding_window": 64} if family in ("gemma2", "gemma3_text") else {}), **changes)


def one_by_one(target: Target, tokens: Any) -> np.ndarray:
    """Logits after the last of these tokens, decoded one after the other."""
    target.crop()
    for token in tokens:
        logits = target.forward([token]).logits[-1]
    target.crop()
    return logits


def path(node: int) -> list[int]:
    above = [] if PARENTS[node] < 0 else path(PARENTS[node])
    return [*above, TREE[node]]


def tolerance(lm: LM, logits: np.ndarray) -> float:
    """Rounding of two orders of summation: n eps times the sizes summed, layer upon layer, wide by their number."""
    config = lm.module.config
    summed = int(config.hidden_size) + int(getattr(config, "intermediate_size", None) or 4 * config.hidden_size) + 64
    return float(4 * config.num_hidden_layers * summed * np.finfo(np.float32).eps * np.abs(logits).max())


@pytest.mark.parametrize(
    ("family", "attention"),
    [(f, a) for f in FAMILIES for a in ("eager", "sdpa") if (f, a) != ("gemma2", "sdpa")],  # which it lacks
)
def test_a_tree_s_logits_are_those_of_its_paths(family: str, attention: str) -> None:
    lm = model(family)
    lm.module.set_attn_implementation(attention)
    target = as_target(lm)
    wanted = np.stack([one_by_one(target, [*PROMPT, *path(n)]) for n in range(len(TREE))])
    target.forward(PROMPT)
    found = target.forward(TREE, PARENTS)
    assert np.abs(found.logits - wanted).max() <= tolerance(lm, wanted)
    assert found.logits.dtype == np.float32
    target.keep(DEEPEST)
    assert target.length == len(PROMPT) + 3
    after = target.forward([20]).logits[-1]
    assert np.abs(after - one_by_one(target, [*PROMPT, *path(5), 20])).max() <= tolerance(lm, wanted)


def test_a_wrong_mask_would_be_seen() -> None:
    """The same tree with another shape gives logits that differ by far more than the tolerance."""
    lm = model("llama")
    target = as_target(lm)
    target.forward(PROMPT)
    right = target.forward(TREE, PARENTS).logits
    target.crop(len(PROMPT))
    wrong = target.forward(TREE, (-1, -1, 1, 0, 1, 2, 2)).logits
    assert np.abs(right - wrong).max() > 100 * tolerance(lm, right)


@pytest.mark.parametrize("family", COMPILED)
def test_compiled_trees_have_the_bits_of_their_paths(family: str) -> None:
    lm = tiny_lm(family, head_dim=32)
    for threads in (1, 2):
        target = as_target(workbench.compile(lm, "dense", threads=threads))
        assert isinstance(target, CompiledTarget)
        chain = one_by_one(target, (*PROMPT, 7, 9, 13))
        target.forward((*PROMPT, 7, 9, 13), last=True)
        target.crop(len(PROMPT))
        assert np.array_equal(target.forward((7, 9, 13)).logits[-1], chain)
        target.crop()
        target.forward(PROMPT)
        tree = target.forward(TREE, PARENTS).logits
        wanted = np.stack([one_by_one(target, [*PROMPT, *path(n)]) for n in range(len(TREE))])
        assert np.abs(tree - wanted).max() <= tolerance(lm, wanted)
        if threads == 1:
            bits = tree
        assert np.array_equal(tree, bits)
        reference = one_by_one(as_target(lm), [*PROMPT, *path(5)])
        assert np.abs(wanted[5] - reference).max() <= tolerance(lm, wanted)


def test_compiled_keeps_a_path() -> None:
    target = as_target(workbench.compile(tiny_lm(head_dim=32), "dense", threads=1))
    target.forward(PROMPT)
    target.forward(TREE, PARENTS)
    target.keep([1, 4])
    found = target.forward([20]).logits[-1]
    wanted = one_by_one(target, [*PROMPT, 8, 12, 20])
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("runtime", ["transformers", "compiled"])
def test_hidden_states_are_what_the_head_multiplies(runtime: str) -> None:
    lm = tiny_lm(head_dim=32)
    target = as_target(lm if runtime == "transformers" else workbench.compile(lm, "dense", threads=1))
    head = lm.module.get_output_embeddings().weight.detach().numpy()
    target.forward(PROMPT)
    found = target.forward(TREE, PARENTS, hidden=True)
    assert found.hidden is not None
    assert found.hidden.shape == (len(TREE), target.hidden_size)
    assert np.abs(found.hidden @ head.T - found.logits).max() < 1e-4
    target.crop()
    last = target.forward(PROMPT, last=True, hidden=True)
    assert last.logits.shape == (1, target.vocabulary)
    assert last.hidden is not None
    assert np.abs(last.hidden[-1] @ head.T - last.logits[-1]).max() < 1e-4
    assert target.forward([3]).hidden is None


@pytest.mark.parametrize("runtime", ["transformers", "compiled"])
def test_cropping_forgets(runtime: str) -> None:
    lm = tiny_lm(head_dim=32)
    target = as_target(lm if runtime == "transformers" else workbench.compile(lm, "dense", threads=1))
    target.forward([*PROMPT, 50, 51, 52])
    target.crop(len(PROMPT))
    assert target.length == len(PROMPT)
    found = target.forward([20]).logits[-1]
    assert np.abs(found - one_by_one(target, [*PROMPT, 20])).max() <= tolerance(lm, found)
    assert target.length == 0
    with pytest.raises(ArgumentError):
        target.crop(5)


@pytest.mark.parametrize("runtime", ["transformers", "compiled"])
def test_wrong_passes_append_nothing(runtime: str) -> None:
    lm = tiny_lm(head_dim=32)
    target = as_target(lm if runtime == "transformers" else workbench.compile(lm, "dense", threads=1))
    target.forward(PROMPT)
    passes = target.forwards
    for ids, options, said in (
        ([], {}, "at least one token"),
        ([97], {}, "from 0 to 96"),
        ([-1], {}, "from 0 to 96"),
        (list(range(3, 64)), {}, "61 more tokens than 4: there is room for 64"),
        ([3, 4], {"parents": [0, 0]}, "-1 or a token before it"),
        ([3, 4], {"parents": [-1]}, "one per token"),
        ([3, 4], {"parents": [-1, -1], "last": True}, "a tree has no last token"),
    ):
        with pytest.raises(ArgumentError, match=said):
            target.forward(ids, **options)
    assert (target.length, target.forwards) == (len(PROMPT), passes)
    with pytest.raises(ArgumentError, match="ascending, each below 4"):
        target.keep([2, 1])
    with pytest.raises(ArgumentError, match="ascending, each below 4"):
        target.keep([4])


def test_an_interrupted_pass_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = model("llama")
    target = as_target(lm)
    target.forward(PROMPT)
    wanted = one_by_one(as_target(lm), [*PROMPT, 20])
    layer = lm.module.model.layers[2]

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(layer, "forward", stop)
        with pytest.raises(KeyboardInterrupt):
            target.forward([7, 8])
    assert target.length == len(PROMPT)
    assert {layer.keys.shape[-2] for layer in target.cache.layers} == {len(PROMPT)}  # type: ignore[attr-defined]
    assert np.abs(target.forward([20]).logits[-1] - wanted).max() < 1e-4


def test_trees_beyond_a_window_are_refused() -> None:
    target = as_target(tiny_lm("gemma2"))  # a window of 8
    target.forward(PROMPT)
    target.forward([3, 4], [-1, -1])
    target.crop(4)
    with pytest.raises(ModelError, match="a window of 8 tokens"):
        target.forward([3, 4, 5, 6, 7], [-1, -1, 0, 1, 1])
    chain = target.forward([3, 4, 5, 6, 7]).logits[-1]  # a chain may
    assert np.abs(chain - one_by_one(target, [*PROMPT, 3, 4, 5, 6, 7])).max() < 1e-4


def test_who_sees_whom() -> None:
    seen, depth = visible(np.array(PARENTS))
    assert depth.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert [np.flatnonzero(row).tolist() for row in seen] == [[0], [1], [0, 2], [0, 3], [1, 4], [0, 2, 5], [0, 2, 6]]


def test_what_a_target_is_made_of() -> None:
    lm = tiny_lm(head_dim=32)
    compiled = workbench.compile(lm, "dense", threads=1)
    for given, kind in ((lm, TransformersTarget), (lm.module, TransformersTarget), (compiled, CompiledTarget)):
        target = as_target(given)
        assert type(target) is kind
        assert (target.vocabulary, target.hidden_size, target.context) == (97, 32, 64)
        assert target.end_tokens == {2}
        target.forward([3])
        assert as_target(target) is target
        assert target.length == 0
    with pytest.raises(ArgumentError):
        as_target("default")
    half = tiny_lm()
    half.module.to(torch.bfloat16)
    assert as_target(half).forward([3, 4, 5], [-1, -1, 0]).logits.dtype == np.float32
