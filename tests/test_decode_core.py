"""The core of decoding: trees, samplers, records, runs, each against something slow and plain."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench
from tests.tiny_lm import tiny_lm as lm_of_bytes
from workbench.decode import DraftTree, Recorder, Run, Sampler, Trace, as_target, decoders, merge, registry, resolve
from workbench.decode.acceptance import Greedy
from workbench.decode.sampling import draw
from workbench.decode.trace import COLUMNS, KINDS
from workbench.decode.verify import verify
from workbench.errors import ArgumentError, Cancelled, DataError, ResourceError
from workbench.jobs import Progress
from workbench.results import Provenance
from workbench.testing import tiny_lm

# trees


def texts(tree: DraftTree) -> list[list[int]]:
    return [tree.texts(n) for n in range(len(tree))]


def random_tree(rng: np.random.Generator, nodes: int) -> DraftTree:
    """Siblings have different tokens."""
    tokens: list[int] = []
    parents: list[int] = []
    taken: set[tuple[int, int]] = set()
    while len(tokens) < nodes:
        place = int(rng.integers(-1, len(tokens))) if tokens else -1
        token = int(rng.integers(0, 6))
        if (place, token) not in taken:
            taken.add((place, token))
            tokens.append(token)
            parents.append(place)
    return DraftTree.of(tokens, parents, rng.random(nodes))


def test_a_chain_is_a_tree() -> None:
    chain = DraftTree.of([4, 5, 6])
    assert chain.parents.tolist() == [-1, 0, 1]
    assert chain.depth.tolist() == [0, 1, 2]
    assert chain.texts(2) == [4, 5, 6]
    assert len(DraftTree.of()) == 0
    assert np.isnan(chain.log_q).all()


@pytest.mark.parametrize("seed", range(5))
def test_trees_know_their_paths(seed: int) -> None:
    tree = random_tree(np.random.default_rng(seed), 12)
    for n, parent in enumerate(tree.parents.tolist()):
        assert tree.path(n) == ([*tree.path(parent), n] if parent >= 0 else [n])
        assert tree.depth[n] == len(tree.path(n)) - 1
        assert n in tree.children[parent]
    assert sorted(n for below in tree.children.values() for n in below) == list(range(12))
    assert texts(tree.first(7)) == texts(tree)[:7]
    kept = {m for n in (5, 9) for m in tree.path(n)}
    assert texts(tree.select([*kept])) == [tree.texts(n) for n in sorted(kept)]


@pytest.mark.parametrize("seed", range(5))
def test_merging_is_the_union_of_paths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    trees = [random_tree(rng, n) for n in (6, 9, 4)]
    merged = merge(trees)
    found = [tuple(t) for t in texts(merged)]
    assert len(set(found)) == len(found)
    assert set(found) == {tuple(t) for tree in trees for t in texts(tree)}
    assert found[: len(trees[0])] == [tuple(t) for t in texts(trees[0])]  # the first one is tried first
    small = merge(trees, most=5)
    by_depth = sorted(found, key=len)
    assert sorted(len(t) for t in texts(small)) == [len(t) for t in by_depth[:5]]
    assert {tuple(t) for t in texts(small)} <= set(found)


def test_trees_carry_distributions() -> None:
    q = {-1: np.array([0.5, 0.5]), 0: np.array([1.0, 0.0]), 2: np.array([0.2, 0.8])}
    tree = DraftTree.of([0, 1, 0, 1], [-1, -1, 0, 2], q=q)
    assert set(tree.first(2).q) == {-1, 0}
    chosen = tree.select([0, 2, 3])
    assert {n: v.tolist() for n, v in chosen.q.items()} == {-1: [0.5, 0.5], 0: [1.0, 0.0], 1: [0.2, 0.8]}


def test_wrong_trees_are_refused() -> None:
    for parents in ([0, 0], [-2, 0], [1, -1]):
        with pytest.raises(ArgumentError, match="stand before its child"):
            DraftTree.of([3, 4], parents)
    with pytest.raises(ArgumentError, match="2 tokens, 1 parents"):
        DraftTree.of([3, 4], [-1])
    with pytest.raises(ArgumentError, match="chosen without its parent"):
        DraftTree.of([3, 4]).select([1])


# samplers


def slow(logits: np.ndarray, sampler: Sampler) -> dict[int, float]:
    """Token by token, with plain Python."""
    shifted = [(float(x) - float(max(logits))) / sampler.temperature for x in logits]
    weights = {n: math.exp(x) for n, x in enumerate(shifted)}
    total = sum(weights.values())
    p = {n: w / total for n, w in weights.items()}

    def renormalised(kept: list[int]) -> dict[int, float]:
        mass = sum(p[n] for n in kept)
        return {n: p[n] / mass for n in kept}

    if sampler.top_k:
        p = renormalised(sorted(p, key=lambda n: (-p[n], n))[: sampler.top_k])
    kept, mass = [], 0.0
    for n in sorted(p, key=lambda n: (-p[n], n)):
        if mass >= sampler.top_p and sampler.top_p < 1:
            break
        kept.append(n)
        mass += p[n]
    p = renormalised(kept)
    return renormalised([n for n in p if p[n] >= sampler.min_p * max(p.values())])


@pytest.mark.parametrize("seed", range(20))
def test_samplers_equal_the_slow_way(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, 25).astype(np.float32)
    logits[3] = logits[7]  # equals
    sampler = Sampler(
        float(rng.uniform(0.3, 2)), int(rng.choice([0, 1, 5, 40])), float(rng.choice([0.3, 0.8, 1.0])),
        float(rng.choice([0.0, 0.1, 0.5])),
    )  # fmt: skip
    wanted = slow(logits, sampler)
    found = sampler.probabilities(logits)
    assert found.sum() == pytest.approx(1)
    assert set(np.flatnonzero(found).tolist()) == set(wanted)
    assert [found[n] for n in wanted] == pytest.approx(list(wanted.values()), rel=1e-6)


def test_greedy_takes_the_first_of_equals() -> None:
    logits = np.array([0.0, 2.0, 2.0, 1.0], np.float32)
    assert Sampler().probabilities(logits).tolist() == [0, 1, 0, 0]
    rng = np.random.default_rng(0)
    assert Sampler().choose(logits, rng) == 1
    assert rng.random() == np.random.default_rng(0).random()  # nothing was drawn


def test_draws_follow_the_distribution() -> None:
    p = np.array([0.0, 0.25, 0.0, 0.5, 0.25, 0.0])
    assert [draw(p, u) for u in (0.0, 0.2499, 0.25, 0.7499, 0.75, 1 - 1e-16)] == [1, 1, 3, 3, 4, 4]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"temperature": -1}, "temperature=-1"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"top_k": -1}, "top_k=-1"),
        ({"top_p": 0}, "top_p=0"),
        ({"top_p": 1.5}, "top_p=1.5"),
        ({"min_p": 2}, "min_p=2"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        Sampler(**wrong)


# records


def recorded() -> Trace:
    recorder = Recorder()
    recorder.target_forwards = 1
    recorder.add("prefill", value=2, position=1)
    drafted = recorder.add("draft", token=5, position=2, log_q=-0.5)
    logits = np.log(np.array([0.1, 0.2, 0.3, 0.15, 0.05, 0.2], np.float32))
    accepted = recorder.add("accept", token=5, parent=drafted, position=2, u=0.25, logits=logits)
    recorder.step = 1
    recorder.add("emit", token=5, parent=accepted, position=2)
    recorder.notes["anything"] = {"a": [1, 2.5]}
    return recorder.finish("greedy", {"k": 3}, [3, 4], lambda t: f"t{t}", Provenance.here())


def test_events_become_columns(tmp_path: Path) -> None:
    trace = recorded()
    assert set(trace.columns) == set(COLUMNS)
    assert {c: a.dtype.str.lstrip("|<") for c, a in trace.columns.items()} == {
        c: kind.lstrip("<") for c, kind in COLUMNS.items()
    }
    assert [KINDS[k] for k in trace.kind] == ["prefill", "draft", "accept", "emit"]
    assert trace.parent.tolist() == [-1, -1, 1, 2]
    assert trace.log_p[2] == pytest.approx(math.log(0.2))
    entropy = -sum(p * math.log(p) for p in (0.1, 0.2, 0.3, 0.15, 0.05, 0.2))
    assert trace.entropy[2] == pytest.approx(entropy, abs=1e-6)
    assert trace.top.tolist() == [-1, -1, 0, -1]
    assert trace.top_token[0].tolist() == [2, 1, 5, 3, 0, 4, -1, -1, -1, -1]
    assert np.isnan(trace.top_log_p[0][6:]).all()
    assert trace.tokens.tolist() == [5]
    assert trace.origins == ["accept"]
    assert trace.piece(5) == "t5"
    assert trace.piece(77) == "<77>"
    assert trace.rows("draft", "emit").tolist() == [1, 3]
    with pytest.raises(ArgumentError, match="unknown kind of event"):
        trace.rows("drafted")
    with pytest.raises(AttributeError, match="no 'colour'"):
        _ = trace.colour
    loaded = Trace.load(trace.save(tmp_path / "trace.json"))
    assert loaded.to_dict() == trace.to_dict()
    assert loaded.notes == {"anything": {"a": [1, 2.5]}}


def test_without_detail_distributions_are_left_out() -> None:
    recorder = Recorder(detail=False)
    recorder.add("accept", token=1, logits=np.zeros(4, np.float32))
    trace = recorder.finish("greedy", {}, [0], str, Provenance.here())
    assert np.isnan(trace.entropy[0])
    assert trace.top_token.shape == (0, 10)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(format="other"), "format 'other'"),
        (lambda c: c.update(version=99), "version 99"),
        (lambda c: c["columns"].pop("u"), "'u'"),
        (lambda c: c["columns"].update(step=c["columns"]["kind"]), ""),
        (lambda c: c["columns"].update(kind="####"), ""),
        (lambda c: c["columns"].update(kind="/wEOAw=="), "kind 255"),
        (lambda c: c["columns"].update(parent=c["columns"]["position"]), "parent"),
        (lambda c: c.update(top_token="", top_log_p=""), "top 0"),
        (lambda c: c.update(kinds=["prefill"]), ""),
    ],
    ids=["format", "version", "missing", "length", "no base64", "unknown kind", "parents", "no tops", "few kinds"],
)
def test_damaged_files_are_named(change: Any, said: str, tmp_path: Path) -> None:
    content = recorded().to_dict()
    change(content)
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"damaged\.json is no trace.*{said}"):
        Trace.load(path)


def test_files_of_other_versions_keep_their_kinds(tmp_path: Path) -> None:
    content = recorded().to_dict()
    content["kinds"] = [*KINDS[:4], KINDS[5], KINDS[4], *KINDS[6:]]
    path = tmp_path / "old.json"
    path.write_text(json.dumps(content))
    assert [KINDS[k] for k in Trace.load(path).kind] == ["prefill", "draft", "accept", "emit"]
    for text in ("[]", "no JSON", ""):
        path.write_text(text)
        with pytest.raises(DataError, match=r"old\.json is no trace"):
            Trace.load(path)
    with pytest.raises(DataError):
        Trace.load(tmp_path / "nothing.json")
    with pytest.raises(ResourceError, match="cannot write"):
        recorded().save(tmp_path / "no folder" / "x.json")


# runs


def say(text: str, **options: Any) -> tuple[Run, list[str]]:
    """A run to which this text is dictated, byte by byte."""
    target, pieces = as_target(lm_of_bytes()), []
    run = Run(target, [5], stream=pieces.append, **{"limit": 200, **options})
    for token in target.tokenizer(text)["input_ids"]:
        if not run.emit(token):
            break
    return run, pieces


@pytest.mark.parametrize("text", ["plain words", "Grüße, 世界 🦙!", "🦙", "a\n\n b  c"])
def test_streamed_pieces_join_to_the_text(text: str) -> None:
    run, pieces = say(text)
    assert run.answer()[0] == text
    assert "".join(pieces) == text
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


@pytest.mark.parametrize(
    ("text", "stop", "wanted"),
    [
        ("one END two", ("END",), "one "),
        ("one EN two", ("END",), "one EN two"),
        ("aab", ("ab",), "a"),
        ("so\n\nwhat", ("\n\n", "what"), "so"),
        ("Grüße 世界", ("世",), "Grüße "),
        ("ends in EN", ("END",), "ends in EN"),
    ],
)
def test_stop_texts_end_an_answer(text: str, stop: tuple[str, ...], wanted: str) -> None:
    run, pieces = say(text, stop=stop)
    assert run.answer()[0] == wanted
    assert "".join(pieces) == wanted  # also what is streamed never goes beyond
    assert run.finished == ("stop text" if wanted != text else "")


def test_half_a_character_at_the_limit_is_said_at_the_end() -> None:
    run, pieces = say("ab世", limit=3)
    assert run.finished == "limit"
    assert run.answer()[0] == "".join(pieces) == "ab\N{REPLACEMENT CHARACTER}"


def test_a_run_ends_at_its_limit_its_context_and_its_stop_token() -> None:
    lm = tiny_lm(head_dim=32)
    run = Run(as_target(lm), [3], limit=3)
    assert [run.emit(t) for t in (5, 6, 7, 8)] == [True, True, False, False]
    assert (run.tokens, run.finished, run.room) == ([3, 5, 6, 7], "limit", 0)
    run = Run(as_target(lm), [3], limit=3)
    assert [run.emit(t) for t in (5, 2, 6)] == [True, False, False]
    assert (run.tokens, run.finished) == ([3, 5], "stop token")
    for model in (lm, workbench.compile(lm, "dense", threads=1)):
        found = workbench.generate(model, [3, 4] * 30, max_new_tokens=50)
        assert (len(found.tokens), found.finished) == (4, "context")
        again = workbench.generate(model, [3, 4] * 30, "prompt-lookup", max_new_tokens=50)
        assert again.tokens.tolist() == found.tokens.tolist()


def test_a_prompt_longer_than_a_block_is_read_in_parts() -> None:
    lm = tiny_lm(max_position_embeddings=2000)
    ids = np.random.default_rng(0).integers(3, 97, 1100).tolist()
    run = Run(as_target(lm), ids)
    found = run.prefill().logits[-1]
    assert run.trace.target_forwards == 3
    whole = as_target(lm).forward(ids, last=True).logits[-1]
    assert np.abs(found - whole).max() < 1e-3
    found_cost = workbench.generate(lm, ids, max_new_tokens=4).trace.cost
    assert (found_cost.target_forwards, found_cost.tokens_per_forward) == (3, 1.0)


@pytest.mark.parametrize("runtime", ["transformers", "compiled"])
def test_a_round_of_verification_says_what_greedy_says(runtime: str) -> None:
    lm = tiny_lm(head_dim=32)
    model = lm if runtime == "transformers" else workbench.compile(lm, "dense", threads=1)
    greedy = workbench.generate(model, [5, 9, 13], max_new_tokens=6).tokens.tolist()
    right = greedy[1:4]
    for tokens, parents, gained in (
        (right, [-1, 0, 1], 4),
        ([90, *right[:1], 91, right[1]], [-1, -1, 1, 1], 3),
        ([90, 91], [-1, -1], 1),
        ([], [], 1),
    ):
        run = Run(as_target(model), [5, 9, 13], limit=20)
        run.emit(int(run.prefill().logits[-1].argmax()))
        verified = verify(run, DraftTree.of(tokens, parents), Greedy())
        assert run.tokens[3:] == greedy[: 1 + gained]
        assert run.target.length == len(run.tokens) - 1
        assert verified.forward.logits[verified.last_row].argmax() == verified.verdict.token
        assert run.forward(run.tokens[-1:]).logits[-1].argmax() == greedy[1 + gained]


def test_cancelling_leaves_the_cache_empty() -> None:
    target, progress, heard = as_target(tiny_lm()), Progress(), []

    def listen(step: Any) -> None:
        heard.append(step.done)
        if len(heard) == 3:
            progress.cancel()

    progress.listener = listen
    with pytest.raises(Cancelled):
        workbench.generate(target, [3, 4, 5], progress=progress)
    assert heard == [1, 2, 3]
    assert target.length == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt": []}, "prompt is empty"),
        ({"prompt": "text"}, "the model has no tokenizer: give token ids"),
        ({"prompt": [3] * 64}, "prompt has 64 tokens; the model has room for 64"),
        ({"prompt": [97]}, "from 0 to 96"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"stop": ["x", ""]}, "stop holds an empty text"),
        ({"method": "gredy"}, "did you mean 'greedy'"),
        ({"method": "prompt-lookup", "draft_token": 3}, "draft_tokens"),
        ({"method": resolve("greedy"), "match": "latest"}, "give hyper-parameters to the decoding method itself"),
        ({"temperature": -0.5}, "temperature=-0.5"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        workbench.generate(tiny_lm(), **{"prompt": [3, 4], **options})


def test_decoders_are_listed_by_family() -> None:
    assert {d.name for d in decoders()} == set(registry())
    assert all(d.family == "speculative" for d in decoders("speculative"))
    with pytest.raises(ArgumentError, match="unknown family"):
        decoders("speculativ")
