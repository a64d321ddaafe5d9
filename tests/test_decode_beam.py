"""Several continuations at once equal one at a time; beams equal transformers' and an exhaustive search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

import workbench
from workbench.decode import Generation, Run, as_target, generate
from workbench.decode.baseline.diverse_beam import distinct
from workbench.decode.batch import WAIT, begin, elsewhere
from workbench.errors import ArgumentError, ModelError
from workbench.models import LM
from workbench.testing import tiny_lm

PROMPT = [5, 9, 3, 40, 7]
SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 128, "initializer_range": 0.2,
    "bos_token_id": 1, "eos_token_id": None,
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


def theirs(lm: LM, width: int, new: int, **options: object) -> tuple[list[int], float]:
    found = lm.module.generate(
        torch.tensor([PROMPT]), attention_mask=torch.ones(1, len(PROMPT), dtype=torch.long), num_beams=width,
        max_new_tokens=new, do_sample=False, return_dict_in_generate=True,
        output_scores=True, pad_token_id=0, **options,
    )  # fmt: skip
    return found.sequences[0, len(PROMPT) :].tolist(), float(found.sequences_scores[0])


def likely_to_end(seed: int) -> LM:
    """A tiny model that ends texts often."""
    lm = tiny_lm(seed=seed)
    with torch.no_grad():
        head = lm.module.get_output_embeddings().weight
        head[2] = 1.1 * head[head.norm(dim=1).argmax()]
    return lm


@pytest.mark.parametrize("early", [False, True, "never"])
@pytest.mark.parametrize("alpha", [1.0, 0.0, 2.0, -0.5])
def test_beam_search_says_what_transformers_says(early: bool | str, alpha: float) -> None:
    ended = 0
    for seed, width in itertools.product(range(3), (2, 3, 5)):  # transformers takes one beam for greedy decoding
        lm = likely_to_end(seed)
        tokens, score = theirs(lm, width, 12, length_penalty=alpha, early_stopping=early)
        found = generate(lm, PROMPT, "beam", max_new_tokens=12, width=width, alpha=alpha, early_stopping=early)
        best = found.trace.notes["hypotheses"][0]
        assert best["tokens"] == tokens
        assert best["score"] == pytest.approx(score, rel=1e-4)
        assert found.tokens.tolist() == [t for t in tokens if t != 2]
        ended += tokens[-1] == 2
    assert ended or alpha == 2  # ends of texts were met


def test_beam_search_on_the_compiled_runtime_says_the_same(lm: LM, compiled: object) -> None:
    for width in (2, 7):
        here = generate(compiled, PROMPT, "beam", max_new_tokens=30, width=width)
        assert here.trace.notes["hypotheses"][0]["tokens"] == theirs(lm, width, 30)[0]


def exhaustive(lm: LM, alpha: float, limit: int) -> tuple[list[int], float]:
    """The text of the best score among all of a tiny vocabulary."""
    size, best = int(lm.module.config.vocab_size), ([], -np.inf)
    for length in range(1, limit + 1):
        texts = np.array(list(itertools.product(range(size), repeat=length)))
        inside = (texts[:, :-1] != 2).all(axis=1) & ((texts[:, -1] == 2) | (length == limit))
        texts = texts[inside]
        ids = np.concatenate([np.tile(PROMPT5, (len(texts), 1)), texts], axis=1)
        with torch.no_grad():
            log_p = lm.module(torch.from_numpy(ids)).logits.double().log_softmax(-1).numpy()
        sums = sum(log_p[np.arange(len(texts)), len(PROMPT5) - 1 + n, texts[:, n]] for n in range(length))
        scores = sums / length**alpha
        if scores.max() > best[1]:
            best = texts[scores.argmax()].tolist(), float(scores.max())
    return best


PROMPT5 = [1, 3, 4]


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_beam_as_wide_as_needed_finds_the_best_of_all_texts(seed: int, alpha: float) -> None:
    lm = tiny_lm(vocab_size=5, seed=seed)
    tokens, score = exhaustive(lm, alpha, 4)
    found = generate(lm, PROMPT5, "beam", max_new_tokens=4, width=5**4, alpha=alpha, early_stopping="never")
    best = found.trace.notes["hypotheses"][0]
    assert best["tokens"] == tokens
    assert best["score"] == pytest.approx(score, rel=1e-4)


def test_a_narrow_beam_misses_it_sometimes() -> None:
    missed = 0
    for seed in range(12):
        lm = tiny_lm(vocab_size=5, seed=seed)
        found = generate(lm, PROMPT5, "beam", max_new_tokens=4, width=1, alpha=0.0).trace.notes["hypotheses"][0]
        missed += found["score"] < exhaustive(lm, 0.0, 4)[1] - 1e-4
    assert missed


def test_one_group_is_beam_search() -> None:
    for seed in range(3):
        lm = likely_to_end(seed)
        one = generate(lm, PROMPT, "diverse-beam", max_new_tokens=10, width=4, groups=1, penalty=3.0)
        beam = generate(lm, PROMPT, "beam", max_new_tokens=10, width=4)
        assert one.tokens.tolist() == beam.tokens.tolist()
        assert one.trace.notes == beam.trace.notes


def by_the_book(lm: LM, groups: int, penalty: float, steps: int) -> list[list[int]]:
    """Groups of one beam: each step the argmax of what the earlier groups' tokens leave."""
    texts: list[list[int]] = [[] for _ in range(groups)]
    for _ in range(steps):
        said: list[int] = []
        for text in texts:
            scores = torch.from_numpy(alone(lm, [*PROMPT, *text])).double().log_softmax(-1).numpy()
            for token in said:
                scores[token] -= penalty
            text.append(int(scores.argmax()))
            said.append(text[-1])
    return texts


@pytest.mark.parametrize("penalty", [0.0, 0.5, 5.0])
def test_groups_pay_for_what_earlier_groups_said(lm: LM, penalty: float) -> None:
    wanted = by_the_book(lm, 3, penalty, 6)
    found = generate(lm, PROMPT, "diverse-beam", max_new_tokens=6, width=3, groups=3, penalty=penalty)
    notes = {h["group"]: h["tokens"] for h in found.trace.notes["hypotheses"]}
    assert [notes[g] for g in range(3)] == wanted


def test_a_penalty_makes_texts_differ(lm: LM) -> None:
    found = [
        generate(lm, PROMPT, "diverse-beam", max_new_tokens=8, width=6, groups=3, penalty=p).trace.notes["hypotheses"]
        for p in (0.0, 1.0)
    ]
    plain, diverse = (distinct([h["tokens"] for h in f]) for f in found)
    assert diverse > plain
    assert distinct([[1, 2, 1, 2]]) == pytest.approx(2 / 3)
    assert distinct([[1]]) == 1


def check_tree(found: Generation) -> None:
    """Every expansion hangs on one a step before, or on the prompt; what is said comes from a path to the root."""
    trace = found.trace
    expand = trace.rows("expand")
    for row in expand:
        parent = trace.parent[row]
        assert trace.position[row] == trace.position[parent] + 1
        assert parent == 0 or parent in expand
    said = trace.rows("emit")
    assert trace.token[trace.parent[said]].tolist() == trace.token[said].tolist()
    assert set(trace.parent[said][1:]) <= set(expand)
    assert trace.parent[trace.parent[said][1:]].tolist() == trace.parent[said][:-1].tolist()


@pytest.mark.parametrize("method", ["beam", "diverse-beam"])
def test_the_trace_holds_the_whole_tree(model: object, method: str) -> None:
    found = generate(model, PROMPT, method, max_new_tokens=9)
    check_tree(found)
    trace = found.trace
    assert found.finished == "limit"
    assert set(found.trace.origins) == {"expand"}
    pruned = trace.rows("prune")
    assert set(trace.parent[pruned]) <= {0, *trace.rows("expand")}
    dead = pruned[trace.token[pruned] < 0]
    continued = set(trace.parent[trace.rows("expand")])
    assert not continued & set(trace.parent[dead])
    score = trace.rows("score")
    best = trace.notes["hypotheses"][0]["score"]
    assert best == pytest.approx(trace.value[score].max(), rel=1e-5) or method == "diverse-beam"
    assert np.isfinite(trace.log_p[trace.rows("expand")]).all()
    again = generate(model, PROMPT, method, max_new_tokens=9)
    assert again.tokens.tolist() == found.tokens.tolist()


def test_beams_near_the_end_of_the_context(model: object) -> None:
    found = generate(model, [3] * 120, "beam", max_new_tokens=50)
    assert len(found.tokens) == 8
    assert found.finished == "context"


def test_beams_say_what_is_wrong(lm: LM) -> None:
    for options, message in (
        ({"width": 0}, "width=0: at least 1"),
        ({"early_stopping": "soon"}, "early_stopping='soon': True, False or 'never'"),
        ({"temperature": 1.0}, "draws nothing"),
    ):
        with pytest.raises(ArgumentError, match=message):
            generate(lm, PROMPT, "beam", **options)
    for options, message in (
        ({"groups": 4}, "groups=4: a divisor of width=6"),
        ({"penalty": -1.0}, r"penalty=-1.0: 0 or more"),
        ({"temperature": 1.0}, "draws nothing"),
    ):
        with pytest.raises(ArgumentError, match=message):
            generate(lm, PROMPT, "diverse-beam", **options)
