"""Medusa and Hydra heads: shapes, the best tree, drafts as a slow reference makes them, training that resumes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

import workbench
from workbench.decode import as_target, generate
from workbench.decode.acceptance import Certain, Greedy, Typical
from workbench.decode.costs import VerifyCosts
from workbench.decode.run import Run
from workbench.decode.sampling import Sampler
from workbench.decode.speculative._head_drafter import Trust
from workbench.decode.speculative._head_tree import best_tree
from workbench.decode.speculative._heads import Heads, as_heads
from workbench.decode.speculative.hydra import Hydra
from workbench.decode.speculative.medusa import Medusa
from workbench.decode.training._heads_work import Recipe, Work
from workbench.decode.training.heads import train_heads
from workbench.decode.training.own_text import OwnText, own_text
from workbench.decode.tree import DraftTree
from workbench.errors import ArgumentError, Cancelled, DataError, ModelError, WorkbenchError
from workbench.jobs import Progress
from workbench.models import LM
from workbench.testing import tiny_lm

METHODS = {"medusa": Medusa, "hydra": Hydra}
WHOLE = {"gate": False, "lookup": 0}  # the heads' own draft
SIZE, VOCABULARY = 32, 97
PROMPTS = [[3 + n % 5, 10 + n, 20 + 3 * n % 50] for n in range(12)]
SETTINGS = {"prompts": PROMPTS, "tokens": 24, "epochs": 3, "batch": 32, "every": 3, "vocabulary": 64}


@pytest.fixture(scope="module")
def lm() -> LM:
    return tiny_lm(head_dim=32)


def random_heads(lm: LM, kind: str, seed: int = 0, **changes) -> Heads:
    """Heads that change much: every level guesses otherwise."""
    random = np.random.default_rng(seed)
    heads = Heads.blank(lm, kind, vocabulary=80)
    blocks = tuple(
        (W / np.sqrt(W.shape[1]), random.normal(size=b.shape).astype("f4"), random.normal(size=U.shape).astype("f4"))
        for W, b, U in heads.blocks
    )
    return replace(heads, blocks=blocks, vocabulary=random.permutation(VOCABULARY)[:80].astype(np.int32), **changes)


# -- the best tree -------------------------------------------------------------------------------------------------


def expected(paths, chances) -> float:
    return sum(float(np.prod([chances[d, r] for d, r in enumerate(p)])) for p in paths)


def every_tree(levels: int, ranks: int, nodes: int):
    """All sets of paths that hold with every path its parent."""
    every = [p for d in range(1, levels + 1) for p in itertools.product(range(ranks), repeat=d)]
    for chosen in itertools.combinations(every, nodes):
        if all(len(p) == 1 or p[:-1] in chosen for p in chosen):
            yield chosen


@pytest.mark.parametrize("seed", range(6))
def test_no_tree_is_expected_to_gain_more(seed: int) -> None:
    random = np.random.default_rng(seed)
    levels, ranks, nodes = [(2, 3, 4), (3, 2, 5), (2, 2, 6), (3, 2, 3), (1, 4, 2), (2, 3, 5)][seed]
    chances = random.dirichlet(np.ones(ranks + 1), levels)[:, :ranks]  # in no order
    found = best_tree(chances, nodes)
    assert len(set(found)) == nodes
    assert all(len(p) == 1 or p[:-1] in found[:n] for n, p in enumerate(found))
    best = max(expected(t, chances) for t in every_tree(levels, ranks, nodes))
    assert expected(found, chances) == pytest.approx(best, rel=1e-12)


def test_a_tree_of_few_guesses_is_whole_and_wrong_chances_are_refused() -> None:
    assert len(best_tree(np.full((2, 2), 0.5), 99)) == 6
    assert best_tree(np.array([[0.6, 0.3], [0.4, 0.1]]), 3) == [(0,), (1,), (0, 0)]
    for chances, nodes in ((np.array([[1.2]]), 1), (np.array([0.5]), 1), (np.array([[0.5]]), 0)):
        with pytest.raises(ArgumentError, match="from 0 to 1"):
            best_tree(chances, nodes)


# -- drafts against a slow reference -------------------------------------------------------------------------------


def rounded(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.bfloat16).double()


def in_groups(x: torch.Tensor) -> torch.Tensor:
    """To one of 255 values in every 64."""
    scale = x.reshape(-1, min(64, len(x))).abs().amax(1, keepdim=True) / 127
    return (torch.round(x.reshape(scale.shape[0], -1) / scale) * scale).reshape(-1)


def in_rows(x: torch.Tensor) -> torch.Tensor:
    scale = x.abs().amax(1, keepdim=True) / 127
    return torch.round(x / scale) * scale


def reference_chances(lm: LM, heads: Heads, hidden: np.ndarray, tokens: list[int]) -> np.ndarray:
    """q over the heads' vocabulary for the guess behind ``tokens``, x_1 first: one guess at a time, in float64."""
    level = len(tokens) - 1
    W, b, U = (torch.from_numpy(np.asarray(x)).double() for x in heads.blocks[level])
    h = torch.from_numpy(hidden).double()
    table = lm.module.get_input_embeddings().weight.detach().double()
    x = torch.cat([h, *(table[t] for t in tokens)]) if heads.kind == "hydra" else h
    a = rounded(W) @ rounded(x) + b  # the kernels round weights and what comes in
    state = h + rounded(U) @ rounded(a * torch.sigmoid(a))
    E = lm.module.get_output_embeddings().weight.detach()[torch.from_numpy(heads.vocabulary).long()].double()
    return torch.softmax(in_rows(E) @ in_groups(state), 0).numpy()


def reference_draft(lm: LM, heads: Heads, hidden: np.ndarray, token: int, nodes: int) -> dict[tuple[int, ...], float]:
    """The likeliest paths among all that there are, and the chance of their last token."""
    whole: dict[tuple[int, ...], tuple[float, float]] = {}
    level = {(): 1.0}
    for _ in range(len(heads)):
        below = {}
        for path, value in level.items():
            q = reference_chances(lm, heads, hidden, [token, *path])
            for n in np.argsort(-q)[:nodes]:  # one rank below the n-th is not in a tree of n nodes
                below[(*path, int(heads.vocabulary[n]))] = value * q[n]
                whole[(*path, int(heads.vocabulary[n]))] = value * q[n], float(q[n])
        level = below
    best = sorted(whole, key=lambda p: -whole[p][0])[:nodes]
    return {p: whole[p][1] for p in best}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("kind", METHODS)
def test_drafts_are_the_likeliest_paths_of_a_slow_reference(lm: LM, kind: str, compiled: bool) -> None:
    heads = random_heads(lm, kind)
    target = as_target(workbench.compile(lm, "dense") if compiled else lm)
    run = Run(target, [5, 9, 3, 40, 7], limit=40)
    drafter = METHODS[kind](heads=heads, nodes=4, **WHOLE).drafter(run)
    drafter.begin(run, run.prefill(hidden=True))
    for token in (11, 60):
        tree = drafter.propose([5, 9, 3, 40, 7, token], 63)
        wanted = reference_draft(lm, heads, drafter.state[0], token, 4)
        got = {tuple(tree.texts(n)): float(np.exp(tree.log_q[n])) for n in range(len(tree))}
        assert got == pytest.approx(wanted, rel=1e-2)  # float32 may round a state the other way


@pytest.mark.parametrize("kind", METHODS)
def test_the_state_is_that_behind_the_newest_token(lm: LM, kind: str) -> None:
    states = []
    method = METHODS[kind](heads=random_heads(lm, kind), nodes=6, **WHOLE)
    run = Run(as_target(lm), [5, 9, 3, 40, 7], limit=12)
    made = method.drafter(run)
    propose = made.propose
    made.propose = lambda context, room: states.append((list(context), made.state[0])) or propose(context, room)
    object.__setattr__(method, "drafter", lambda run: made)
    method.decode(run)
    assert len(states) > 3
    for context, state in states:
        fresh = as_target(lm).forward(context[:-1], hidden=True)
        np.testing.assert_allclose(state, fresh.hidden[-1], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("kind", METHODS)
def test_a_static_tree_has_the_ranks_that_were_right_most_often(lm: LM, kind: str) -> None:
    accuracy = np.array([[0.1, 0.6, 0.05], [0.5, 0.1, 0.3], [0.3, 0.2, 0.1]], np.float32)
    heads = random_heads(lm, kind, accuracy=accuracy)
    run = Run(as_target(lm), [5, 9, 3], limit=40)
    drafter = METHODS[kind](heads=heads, nodes=4, tree="static", **WHOLE).drafter(run)
    drafter.begin(run, run.prefill(hidden=True))
    tree = drafter.propose([5, 9, 3, 11], 63)
    found = set()
    for n in range(len(tree)):
        ranks, text = [], tree.texts(n)
        for d, token in enumerate(text):
            q = reference_chances(lm, heads, drafter.state[0], [11, *text[:d]])
            ranks.append(int(np.flatnonzero(heads.vocabulary[np.argsort(-q)] == token)[0]))
        found.add(tuple(ranks))
    assert found == set(best_tree(accuracy, 4)) == {(1,), (1, 0), (1, 2), (0,)}


@pytest.mark.parametrize("kind", METHODS)
def test_room_is_kept_and_answers_are_the_plain_ones(lm: LM, kind: str) -> None:
    plain = generate(lm, [5, 9, 3], max_new_tokens=30)
    for tree in ("likely", "static"):
        for heads in (random_heads(lm, kind), Heads.blank(lm, kind)):
            found = generate(lm, [5, 9, 3], kind, heads=heads, tree=tree, max_new_tokens=30)
            np.testing.assert_array_equal(found.tokens, plain.tokens)
            run = Run(as_target(lm), [5, 9, 3], limit=40)
            drafter = METHODS[kind](heads=heads, tree=tree, **WHOLE).drafter(run)
            drafter.begin(run, run.prefill(hidden=True))
            assert [len(drafter.propose([5, 9, 3, 8], room)) for room in (1, 2, 5)] == [1, 2, 5]


# -- how much of a draft pays ----------------------------------------------------------------------------------------

STEEP, FLAT = VerifyCosts.given({1: 1.0, 2: 9.0}), VerifyCosts.given({1: 1.0, 16: 1.01})


@pytest.mark.parametrize("kind", METHODS)
def test_where_passes_are_dear_nothing_is_verified_and_where_they_cost_nothing_all(lm: LM, kind: str) -> None:
    heads, plain = random_heads(lm, kind), generate(lm, [5, 9, 3], max_new_tokens=20)
    settings = {"heads": heads, "lookup": 0, "max_new_tokens": 20}
    dear = generate(lm, [5, 9, 3], kind, costs=STEEP, **settings)
    assert dear.trace.cost.target_forwards == plain.trace.cost.target_forwards
    assert len(dear.trace.rows("decline")) >= 18
    assert not len(dear.trace.rows("draft"))
    assert generate(lm, [5, 9, 3], kind, costs=FLAT, **settings).trace.acceptance.drafted > 19
    assert dear.tokens.tolist() == plain.tokens.tolist()


def test_the_part_of_a_draft_that_gains_most_for_its_cost() -> None:
    random = np.random.default_rng(0)
    tree = DraftTree.of([1, 2, 3, 4, 5], [-1, 0, -1, 1, 2])
    for _ in range(50):
        values = np.sort(random.random(5))[::-1]
        costs = VerifyCosts((1, 2, 3, 4, 5, 6), tuple(1 + np.cumsum([0, *random.random(5)])), 1.3)
        trust = Trust()
        trust.learn(random.random(3), 1)
        worth = {0: 1.1}
        for n in range(1, 6):  # the first two nodes are a chain
            expected = trust.accepted / trust.expected * values[:n].sum()
            worth[n] = (1 + expected) / costs.ratio(1 + n, tree=n > 2)
        size, best = trust.size(tree, values, costs)
        assert size == max(worth, key=worth.get)
        assert best == pytest.approx(max(worth[n] for n in range(1, 6)))


def test_heads_that_are_wrong_lose_trust_and_win_it_back() -> None:
    trust, tree = Trust(), DraftTree.of([1])
    values, costs = np.array([0.9]), VerifyCosts.given({1: 1.0, 2: 1.5})
    assert trust.size(tree, values, costs)[0] == 1
    for _ in range(30):
        trust.learn(values, 0)
    assert trust.size(tree, values, costs)[0] == 0
    for _ in range(60):
        trust.learn(values, 1)
    assert trust.size(tree, values, costs)[0] == 1
    trust.learn(np.empty(0), 5)  # a draft of others says nothing
    assert trust.size(tree, values, costs)[0] == 1


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("kind", METHODS)
def test_a_text_that_repeats_itself_is_its_own_draft(lm: LM, kind: str, gate: bool) -> None:
    heads, prompt = random_heads(lm, kind), [5, 9, 3, 40, 7, 66, 5, 9, 3]
    run = Run(as_target(lm), prompt, limit=40)
    for least, said in ((4, [7, 66, 5, 9]), (5, None), (0, None)):
        drafter = METHODS[kind](heads=heads, nodes=4, gate=gate, costs=FLAT, lookup=least).drafter(run)
        drafter.begin(run, run.prefill(hidden=True))
        tree = drafter.propose([*prompt, 40], 4)
        assert (tree.tokens.tolist() == [7, 66, 5, 9]) == (said is not None)
        run.target.crop()


# -- heads, their file, and whom they fit --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", METHODS)
def test_untrained_heads_say_what_the_output_head_says(lm: LM, kind: str) -> None:
    heads, random = Heads.blank(lm, kind), np.random.default_rng(0)
    for k, (W, b, U) in enumerate(heads.blocks, 1):
        inputs = SIZE * (k + 1) if kind == "hydra" else SIZE
        assert (W.shape, b.shape, U.shape) == ((SIZE, inputs), (SIZE,), (SIZE, SIZE))
        x = random.normal(size=(3, inputs)).astype(np.float32)
        np.testing.assert_array_equal(heads.states(k - 1, x), x[:, :SIZE])


def test_a_file_gives_heads_back(lm: LM, tmp_path) -> None:
    heads = random_heads(lm, "hydra")
    found = Heads.load(heads.save(tmp_path / "deep" / "h.safetensors"))
    assert (found.kind, dict(found.about)) == ("hydra", dict(heads.about))
    np.testing.assert_array_equal(found.vocabulary, heads.vocabulary)
    np.testing.assert_allclose(found.accuracy, heads.accuracy)
    for ours, theirs in zip(heads.blocks, found.blocks, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a.astype(np.float16).astype(np.float32), b)
    assert as_heads(str(tmp_path / "deep" / "h.safetensors"), "hydra").kind == "hydra"


def test_what_is_no_heads_is_refused(lm: LM, tmp_path) -> None:
    heads = random_heads(lm, "medusa")
    with pytest.raises(ArgumentError, match="of the kind 'medusa'"):
        as_heads(heads, "hydra")
    with pytest.raises(ArgumentError, match="train_heads"):
        as_heads(3, "hydra")
    with pytest.raises(DataError, match="train_heads"):
        as_heads(tmp_path / "none.safetensors", "hydra")
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match="train_heads"):
        Heads.load(tmp_path / "x.safetensors")
    with pytest.raises(DataError, match="want"):
        replace(heads, blocks=tuple((W[1:], b, U) for W, b, U in heads.blocks))
    with pytest.raises(DataError, match="at least one head"):
        replace(heads, blocks=())
    with pytest.raises(WorkbenchError, match="kind of heads"):
        replace(heads, kind="eagle")


@pytest.mark.parametrize("compiled", [False, True])
def test_heads_refuse_a_model_of_other_weights(lm: LM, compiled: bool) -> None:
    heads, other = random_heads(lm, "medusa"), tiny_lm(head_dim=32, seed=1)
    model = workbench.compile(other, "dense") if compiled else other
    with pytest.raises(ModelError, match=r"train_heads\(model, 'medusa'\).*same_base=True"):
        generate(model, [5, 9, 3], "medusa", heads=heads, max_new_tokens=4)
    plain = generate(model, [5, 9, 3], max_new_tokens=12)
    found = generate(model, [5, 9, 3], "medusa", heads=heads, max_new_tokens=12, same_base=True)
    np.testing.assert_array_equal(found.tokens, plain.tokens)
    with pytest.raises(ModelError, match="train own ones"):  # sizes differ: no way to use them
        generate(tiny_lm(hidden_size=64), [5, 9, 3], "medusa", heads=heads, same_base=True)


def test_a_pruned_model_has_to_be_named_and_a_changed_one_is_noticed(lm: LM) -> None:
    heads = random_heads(lm, "hydra")
    pruned = workbench.prune(lm, "magnitude", 0.5)
    with pytest.raises(ModelError, match="same_base=True"):
        generate(pruned, [5, 9, 3], "hydra", heads=heads, max_new_tokens=4)
    assert len(generate(pruned, [5, 9, 3], "hydra", heads=heads, max_new_tokens=4, same_base=True).tokens)
    assert len(generate(workbench.compile(lm), [5, 9, 3], "hydra", heads=heads, max_new_tokens=4).tokens)


def test_fields_and_rules(lm: LM) -> None:
    run = Run(as_target(lm), [5], limit=4)
    warm = Run(as_target(lm), [5], limit=4, sampler=Sampler(1.0))
    assert isinstance(Medusa().rule(run, False), Greedy)
    assert isinstance(Medusa().rule(warm, False), Certain)
    assert Medusa(acceptance="typical", epsilon=0.2, delta=0.5).rule(warm, False) == Typical(0.2, 0.5)
    for wrong, said in (
        ({"nodes": 0}, "nodes=0"),
        ({"tree": "oak"}, "tree"),
        ({"acceptance": "any"}, "acceptance"),
        ({"epsilon": 0}, "epsilon=0"),
        ({"lookup": -1}, "lookup=-1"),
    ):
        with pytest.raises(WorkbenchError, match=said):
            Hydra(**wrong)
    assert "Heads" in str(Hydra(heads=random_heads(lm, "hydra")).parameters["heads"])


def until(stop: int, seen: list[int]) -> Progress:
    """Cancels at a step of the training."""

    def listen(step):
        if step.what.startswith("training"):
            seen.append(step.done)
            if step.done == stop:
                progress.cancel()

    progress = Progress(listen)
    return progress


# -- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", METHODS)
def test_a_killed_training_comes_to_the_same_bits(lm: LM, kind: str, tmp_path) -> None:
    whole = train_heads(lm, kind, folder=tmp_path / "whole", **SETTINGS)
    seen: list[int] = []
    for stop in (7, 11):
        with pytest.raises(Cancelled):
            train_heads(lm, kind, folder=tmp_path / "cut", progress=until(stop, seen), **SETTINGS)
    cut = train_heads(lm, kind, folder=tmp_path / "cut", **SETTINGS)
    assert seen.count(3) == 1  # the second one did not begin anew
    for ours, theirs in zip(whole.blocks, cut.blocks, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(whole.accuracy, cut.accuracy)


@pytest.mark.parametrize("kind", METHODS)
def test_training_lowers_the_loss(lm: LM, kind: str, tmp_path) -> None:
    losses = []
    listener = Progress(lambda step: losses.append(step.partial) if step.what.startswith("training") else None)
    settings = SETTINGS | {"epochs": 15, "rate": 1e-2, "vocabulary": 97}
    heads = train_heads(lm, kind, folder=tmp_path, progress=listener, **settings)
    assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:2])
    prompt = PROMPTS[0]
    plain = generate(lm, prompt, max_new_tokens=20)
    untrained = generate(lm, prompt, kind, heads=Heads.blank(lm, kind), max_new_tokens=20)
    trained = generate(lm, prompt, kind, heads=heads, max_new_tokens=20)
    assert np.array_equal(plain.tokens, trained.tokens)
    assert trained.trace.cost.target_forwards < untrained.trace.cost.target_forwards


def test_own_text_is_what_the_model_writes_one_answer_at_a_time(lm: LM, tmp_path) -> None:
    text = own_text(lm, PROMPTS[:5], tmp_path, tokens=8, batch=2, temperatures=(0.0,), dtype=torch.float32)
    answers = {tuple(p): generate(lm, p, max_new_tokens=8) for p in PROMPTS[:5]}
    begin = 0
    seen = []
    for end in text.ends.tolist():
        written = text.tokens[begin:end].tolist()
        prompt = next(p for p in answers if p[-1] == written[0] and p not in seen)
        seen.append(prompt)
        plain = answers[prompt].tokens.tolist()
        assert written[1 : 1 + len(plain)] == plain
        fresh = as_target(lm).forward([*prompt, *written[1:-1]], hidden=True).hidden[len(prompt) - 1 :]
        np.testing.assert_allclose(text.hidden[begin : end - 1].astype(np.float32), fresh, rtol=2e-3, atol=2e-3)
        begin = end
    assert text.starts(3).tolist() == [
        n for n in range(len(text.tokens)) if any(b <= n < e - 3 for b, e in spans(text))
    ]


@pytest.mark.parametrize(("count", "held"), [(1, set()), (3, {2}), (45, {19, 39})])
def test_ranks_are_counted_on_sequences_that_are_not_learned_from(lm: LM, count: int, held: set[int]) -> None:
    random = np.random.default_rng(0)
    tokens, hidden = random.integers(0, VOCABULARY, 9 * count), random.normal(size=(9 * count, SIZE))
    text = OwnText(tokens.astype(np.int32), hidden.astype(np.float16), np.arange(1, count + 1) * 9)
    work = Work(lm, text, Recipe("medusa", 2, 64, 1, 32, 1e-3, 0.5, 0.1, 0))
    assert set((work.held // 9).tolist()) == held
    assert set((work.train // 9).tolist()) == set(range(count)) - held


def test_every_round_asks_other_prompts(lm: LM, tmp_path, monkeypatch) -> None:
    asked = []

    def questions(tokenizer, count, seed):
        asked.append((count, seed))
        return [[seed + 3, n, n + 1] for n in range(count)]

    monkeypatch.setattr("workbench.decode.training.heads.questions", questions)
    reader = replace(lm, tokenizer=object())
    settings = SETTINGS | {"prompts": 4, "epochs": 1, "seed": 7}
    once, twice = (train_heads(reader, rounds=n, folder=tmp_path, **settings) for n in (1, 2))
    assert asked == [(4, 7), (4, 7), (4, 8)]
    assert int(twice.about["tokens"]) > int(once.about["tokens"])


def spans(text) -> list[tuple[int, int]]:
    return list(itertools.pairwise([0, *text.ends.tolist()]))


def test_a_model_without_tokenizer_needs_prompts(lm: LM, tmp_path) -> None:
    with pytest.raises(ArgumentError, match="as token ids"):
        train_heads(lm, folder=tmp_path)
    for wrong, said in (({"heads": 0}, "heads=0"), ({"rate": 0}, "rate=0"), ({"kind": "eagle"}, "kind of heads")):
        with pytest.raises(WorkbenchError, match=said):
            train_heads(lm, folder=tmp_path, prompts=PROMPTS, **wrong)


# -- the default model -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", METHODS)
def test_shipped_heads_on_the_default_model(kind: str) -> None:
    lm = workbench.load()
    prompt = "Give me three reasons to read books:\n\n1."
    for model in (lm, workbench.compile(lm, "dense")):
        plain = generate(model, prompt, max_new_tokens=24)
        found = generate(model, prompt, kind, max_new_tokens=24)
        assert found.text == plain.text
        assert found.trace.cost.target_forwards < plain.trace.cost.target_forwards
