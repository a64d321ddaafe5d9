"""Structured prompts against full passes with explicit masks, and against what must not change."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from tiny_lm import tiny_lm
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

import workbench
from workbench.attention.segments import SegmentMethod, Segments, Shelf, read, registry, resolve
from workbench.attention.segments._method import METHODS, Part
from workbench.attention.segments._questions import Town, choices, orders
from workbench.attention.segments.claims import BetterThanInLine, SameInEveryOrder, SegmentContext, likelihoods
from workbench.claims import claims
from workbench.decode.target import as_target
from workbench.errors import ArgumentError, ModelError
from workbench.models import LM

BEFORE, PARTS, AFTER = "Pick one: ", ("red", "a deep blue", "green", "ochre"), "? It is"
EDGES = ((0, 1), (2, 1), (1, 3), (2, 3))  # 0 and 2 are read alone, then 1, then 3


@pytest.fixture(scope="module")
def lm() -> LM:
    return tiny_lm()


@pytest.fixture(scope="module")
def exact(lm: LM) -> LM:
    """The same model in float64."""
    return workbench.wrap(copy.deepcopy(lm.module).double(), lm.tokenizer)


def full(lm: LM, ids: Sequence[int], mask: np.ndarray, positions: Sequence[int]) -> np.ndarray:
    """One pass over everything with an additive mask: float64 logits."""
    dtype = lm.module.dtype
    hidden = torch.zeros(mask.shape, dtype=dtype).masked_fill(~torch.from_numpy(mask), torch.finfo(dtype).min)[
        None, None
    ]
    with torch.no_grad():
        out = lm.module(
            torch.tensor([list(ids)]), attention_mask=hidden, position_ids=torch.tensor([list(positions)]),
            use_cache=False,
        )  # fmt: skip
    return out.logits[0].double().numpy()


def by_hand(parts: Sequence[Sequence[int]], starts: Sequence[int], sees: Sequence[Sequence[int]]) -> tuple[Any, ...]:
    """Ids, mask and positions of pieces, written token by token."""
    rows = [(n, t, starts[n] + k) for n, part in enumerate(parts) for k, t in enumerate(part)]
    mask = np.zeros((len(rows), len(rows)), bool)
    for i, (n, _, place) in enumerate(rows):
        for j, (m, _, other) in enumerate(rows):
            mask[i, j] = other <= place if n == m else m in sees[n]
    return [t for _, t, _ in rows], mask, [p for _, _, p in rows]


def encode(lm: LM, text: str) -> list[int]:
    return list(lm.tokenizer(text)["input_ids"])


def pieces(lm: LM) -> list[list[int]]:
    return [encode(lm, text) for text in (BEFORE, *PARTS, AFTER)]


def graph_by_hand(lm: LM, more: Sequence[int] = ()) -> tuple[Any, ...]:
    """`EDGES`, in the order of reading: 0, 2, 1, 3."""
    before, zero, one, two, three, after = pieces(lm)
    b = len(before)
    first = b + max(len(zero), len(two))
    second = first + len(one)
    given = [before, zero, two, one, three, [*after, *more]]
    starts = [0, b, b, first, second, second + len(three)]
    return by_hand(given, starts, [(), (), (), (1, 2), (3, 2), (0, 1, 2, 3, 4)])


def set_by_hand(lm: LM, more: Sequence[int] = ()) -> tuple[Any, ...]:
    before, *parts, after = pieces(lm)
    b = len(before)
    starts = [0, b, b, b, b, b + max(map(len, parts))]
    return by_hand([before, *parts, [*after, *more]], starts, [(), (0,), (0,), (0,), (0,), (0, 1, 2, 3, 4)])


def rounding(lm: LM, exact: LM) -> float:
    """What float32 costs an ordinary pass over a text of this size, with room for another order of sums."""
    ids = [t for piece in pieces(lm) for t in piece]
    plain = np.tri(len(ids), dtype=bool), range(len(ids))
    return 16 * float(np.abs(full(lm, ids, *plain) - full(exact, ids, *plain)).max())


def test_a_set_is_what_a_full_pass_with_its_mask_says(exact: LM) -> None:
    target = read(exact, "set-prompt", Segments(BEFORE, PARTS, AFTER), canonical=False)
    ids, mask, positions = set_by_hand(exact)
    assert target.layout.ids.tolist() == ids
    assert np.array_equal(target.mask, mask)
    assert target.positions.tolist() == positions
    assert target.logits == pytest.approx(full(exact, ids, mask, positions)[-len(target.after) :], abs=1e-6)  # float32
    assert target.layout.share == pytest.approx(mask.sum() / np.tri(len(ids)).sum())


def test_a_graph_is_what_a_full_pass_with_its_mask_says(lm: LM, exact: LM) -> None:
    target = read(lm, "graph-kv", Segments(BEFORE, PARTS, AFTER, EDGES))
    ids, mask, positions = graph_by_hand(lm)
    assert target.layout.ids.tolist() == ids
    assert np.array_equal(target.mask, mask)
    assert target.positions.tolist() == positions
    wanted = full(exact, ids, mask, positions)[-len(target.after) :]
    allowed = rounding(lm, exact)
    assert np.abs(target.logits - wanted).max() <= allowed
    unturned = [*positions[: len(pieces(lm)[0])], *(p - 1 for p in positions[len(pieces(lm)[0]) :])]
    assert np.abs(full(exact, ids, mask, unturned)[-len(target.after) :] - wanted).max() > 10 * allowed


def test_orders_do_not_matter_in_exact_arithmetic(exact: LM) -> None:
    found = [
        full(exact, layout.ids, layout.mask, layout.positions)[-1]
        for order in itertools.permutations([tuple(p) for p in pieces(exact)[1:-1]])
        for layout in [
            resolve("set-prompt", {"canonical": False}).layout(tuple(pieces(exact)[0]), order, tuple(pieces(exact)[-1]))
        ]
    ]
    tokens, layers = sum(map(len, pieces(exact))), 3
    allowed = tokens * layers * np.finfo(np.float32).eps * np.abs(found).max()  # norms are float32 in any model
    assert np.ptp(found, 0).max() <= allowed
    line = [
        full(exact, ids, np.tri(len(ids), dtype=bool), range(len(ids)))[-1]
        for order in itertools.permutations(pieces(exact)[1:-1])
        for ids in [[t for p in (pieces(exact)[0], *order, pieces(exact)[-1]) for t in p]]
    ]
    assert np.ptp(line, 0).max() > 10 * allowed


def test_orders_do_not_matter_to_the_last_bit(lm: LM) -> None:
    first = read(lm, "set-prompt", Segments(BEFORE, PARTS, AFTER))
    said = workbench.generate(first, first.after, max_new_tokens=6).tokens
    for order in itertools.permutations(PARTS):
        again = read(lm, "set-prompt", Segments(BEFORE, order, AFTER))
        assert np.array_equal(again.logits, first.logits)
        assert np.array_equal(again.positions, first.positions)
    assert np.array_equal(workbench.generate(again, again.after, max_new_tokens=6).tokens, said)
    assert not np.array_equal(read(lm, "set-prompt", Segments(BEFORE, (*PARTS[1:], "rex"), AFTER)).logits, first.logits)


@pytest.mark.parametrize(
    ("method", "before", "parts", "edges", "options"),
    [
        ("set-prompt", BEFORE, PARTS[:1], (), {}),
        ("graph-kv", "", PARTS[:1], (), {}),
        ("graph-kv", BEFORE, PARTS[:1], (), {"sees_before": True}),
        ("graph-kv", "", PARTS, tuple(itertools.combinations(range(4), 2)), {}),
    ],
)
def test_one_part_and_a_full_chain_are_ordinary_reading(
    lm: LM, exact: LM, method: str, before: str, parts: Any, edges: Any, options: Any
) -> None:
    target = read(lm, method, Segments(before, parts, AFTER, edges), **options)
    ids = encode(lm, before + "".join(parts) + AFTER)
    assert target.layout.ids.tolist() == ids
    assert np.array_equal(target.mask, np.tri(len(ids), dtype=bool))
    wanted = full(exact, ids, np.tri(len(ids), dtype=bool), range(len(ids)))[-len(target.after) :]
    assert np.abs(target.logits - wanted).max() <= rounding(lm, exact)


@pytest.mark.parametrize("method", ["set-prompt", "graph-kv"])
def test_decoding_goes_on_as_full_passes_do(exact: LM, method: str) -> None:
    graph = method == "graph-kv"
    options = {} if graph else {"canonical": False}
    target = read(exact, method, Segments(BEFORE, PARTS, AFTER, EDGES if graph else ()), **options)
    said: list[int] = []
    for _ in range(8):
        said.append(int(full(exact, *(graph_by_hand if graph else set_by_hand)(exact, said))[-1].argmax()))
    assert workbench.generate(target, target.after, max_new_tokens=8).tokens.tolist() == said
    assert target.length == 0
    drafted = workbench.generate(target, target.after, "prompt-lookup", max_new_tokens=8)
    assert drafted.tokens.tolist() == said
    with pytest.raises(ArgumentError, match="behind the parts"):
        target.crop(1)


def test_trees_and_kept_paths(lm: LM) -> None:
    target = read(lm, "set-prompt", Segments(BEFORE, PARTS, AFTER))
    chain = target.forward([5, 6, 7]).logits
    target.crop(len(target.after))
    tree = target.forward([9, 5, 8, 6, 7], [-1, -1, 0, 1, 3]).logits
    assert tree[[1, 3, 4]] == pytest.approx(chain, abs=1e-6)
    target.keep([1, 3])
    assert target.length == len(target.after) + 2
    assert target.forward([7]).logits == pytest.approx(chain[2:], abs=1e-6)
    assert target.forward([7], hidden=True).hidden.shape == (1, 32)


def test_a_shelf_saves_reading_and_changes_nothing(lm: LM, exact: LM) -> None:
    shelf, allowed = Shelf(), rounding(lm, exact)
    read(lm, "graph-kv", Segments("x", PARTS, AFTER, EDGES), shelf=shelf)
    assert (len(shelf), shelf.hits) == (5, 0)
    assert shelf.nbytes == 3 * 2 * 2 * 8 * 4 * (1 + sum(map(len, PARTS)))  # layers, k and v, heads, channels, bytes
    new = Segments("something else ", (PARTS[2], PARTS[0], "new"), AFTER, ((0, 2), (1, 2)))
    found = read(lm, "graph-kv", new, shelf=shelf)
    assert shelf.hits == 2
    assert np.abs(found.logits - read(lm, "graph-kv", new).logits).max() <= allowed
    for moved in ("y", "a long way off: "):  # targets with their sources where they were, seen from them
        again = read(lm, "graph-kv", Segments(moved, PARTS, AFTER, EDGES), shelf=shelf)
        wanted = read(lm, "graph-kv", Segments(moved, PARTS, AFTER, EDGES))
        assert np.abs(again.logits - wanted.logits).max() <= allowed
    assert shelf.hits == 2 + 4 + 4
    with pytest.raises(ArgumentError, match="another model"):
        read(tiny_lm(), "graph-kv", new, shelf=shelf)


def test_learned_positions_can_be_shared_but_not_moved() -> None:
    torch.manual_seed(0)
    module = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=64))
    given = [1, 2, 3], ([4, 5], [6], [7, 8, 9]), [10, 11]
    target = read(module, "set-prompt", Segments(*given), canonical=False)
    args = by_hand([given[0], *given[1], given[2]], [0, 3, 3, 3, 6], [(), (0,), (0,), (0,), (0, 1, 2, 3)])
    assert target.logits == pytest.approx(full(workbench.wrap(module.eval()), *args)[-2:], abs=1e-5)
    with pytest.raises(ModelError, match="cannot be moved"):
        read(module, "graph-kv", Segments(*given))


def test_what_cannot_be_read_is_refused(lm: LM) -> None:
    def refused(match: str, method: str = "graph-kv", model: Any = lm, **given: Any) -> None:
        with pytest.raises(ArgumentError, match=match):
            read(model, method, Segments(**{"before": BEFORE, "parts": PARTS, "after": AFTER, **given}))

    refused("edges=.*takes none", "set-prompt", edges=[(0, 1)])
    refused(r"circle among the parts \[1, 2, 3\]", edges=[(0, 1), (1, 2), (2, 1), (2, 3)])
    refused("two different indices below 4", edges=[(0, 4)])
    refused("two different indices", edges=[(1, 1)])
    refused(r"parts\[1\] is empty", parts=("a", "", "b"))
    refused("at least one text", parts=())
    refused("at least one text", parts="abc")
    refused("takes 273 positions; the model has 256", parts=("a" * 256,))
    refused("no token: each from 0 to 255", before=[256])
    refused("no tokenizer", model=workbench.wrap(lm.module))
    refused("did you mean 'graph-kv'", "graphkv")
    with pytest.raises(ArgumentError, match="hyper-parameter of set-prompt"):
        read(lm, "set-prompt", Segments(BEFORE, PARTS), order=1)
    windowed = MistralForCausalLM(
        MistralConfig(
            vocab_size=256, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, sliding_window=20, head_dim=8,
        )
    )  # fmt: skip
    with pytest.raises(ArgumentError, match="window is 20"):
        read(windowed, "set-prompt", Segments(range(8), ([1] * 6, [2] * 6)))


def test_room_counts_positions_not_rows(lm: LM) -> None:
    target = read(lm, "set-prompt", Segments("", ("a" * 100, "b" * 100, "c" * 100)))
    assert (target.layout.end, target.context, target.length) == (100, 156, 0)
    assert target.logits.shape == (0, 256)
    assert len(workbench.generate(target, [1] * 100, max_new_tokens=56).tokens) == 56


def test_pictures(lm: LM) -> None:
    small = read(lm, "graph-kv", Segments(BEFORE, PARTS, AFTER, EDGES))
    assert "part 3  " in small.layout.to_text()
    assert "part 0, part 2" in small.layout.to_text()
    assert small._repr_mimebundle_()["text/html"] == small.layout.to_html()
    assert "<img" in small.layout.to_html()
    large = read(lm, "set-prompt", Segments("", ("a" * 250, "b" * 250)))
    assert 'width="167"' in large.layout.picture()  # 500 tokens in cells of three


@dataclass(frozen=True)
class _InLine(SegmentMethod):
    """Not a set at all: parts one after the other, each sees those before it."""

    name = "in-line"
    canonical: bool = True  # as `SetPrompt` has it, which the claim sets

    def place(self, before: int, parts: Any, edges: Any) -> list[Part]:
        del edges
        starts = np.cumsum([before, *map(len, parts)]).tolist()
        return [Part(n, starts[n], tuple(range(n))) for n in range(len(parts))]


def test_the_claim_of_sets_can_fail(lm: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    check, context = SameInEveryOrder(questions=3), SegmentContext(lm, lm)
    found = check(context, "set-prompt")
    assert "changed for 0 of 3 questions" in found.note
    assert abs(found.estimate) < 0.05
    monkeypatch.setitem(METHODS.known, "in-line", _InLine)
    wrong = check(context, "in-line")
    assert wrong.status == "not held"
    assert "changed for 3 of 3 questions" in wrong.note
    assert wrong.estimate == pytest.approx(0, abs=1e-6)  # it is the plain prompt
    assert context.conditions().runtime == "transformers, float32"


def test_the_claim_of_graphs_compares_with_reading_in_line(lm: LM) -> None:
    long = copy.copy(lm.module)
    long.config = copy.deepcopy(lm.module.config)
    long.config.max_position_embeddings = 4096
    context = SegmentContext(workbench.wrap(long, lm.tokenizer), seeds=(0, 1))
    found = BetterThanInLine(questions=2)(context, "graph-kv")
    assert len(found.runs) == 2
    assert "than without edges" in found.note
    assert abs(found.estimate) < 0.1


def test_tasks(lm: LM) -> None:
    town = Town.of(1)
    assert town == Town.of(1) != Town.of(2)
    for index in range(7):
        task = town.question(index)
        assert len(set(task.notes)) == 8
        assert [task.answer in note for note in task.notes] == [n == index for n in range(8)]
    assert sorted(orders(3, 6)) == sorted(itertools.permutations(range(3)))
    assert len({q.name for q in choices()}) == 20
    target = as_target(lm)
    last = target.forward([1, 2]).logits[-1]
    found = likelihoods(target, last, [[3, 4], [5]])
    assert target.length == 2
    both = torch.log_softmax(torch.from_numpy(np.stack([last, target.forward([3]).logits[-1]])).double(), -1).numpy()
    assert found == pytest.approx([both[0, 3] + both[1, 4], both[0, 5]], abs=1e-5)


def test_registered() -> None:
    assert set(registry()) == {"set-prompt", "graph-kv"} <= set(claims())


@pytest.mark.slow
def test_on_the_default_model() -> None:
    real = workbench.load()
    given = Segments(
        "Which of these is a fruit?\n", (" - a stone\n", " - a banana\n", " - a very old house\n"), "Answer:"
    )
    target = read(real, "set-prompt", given)
    layout = target.layout
    wanted = full(real, layout.ids, layout.mask, layout.positions)[-len(target.after) :]
    assert np.abs(target.logits - wanted).max() < 1e-3
    graph = Segments("", given.parts, given.after, ((0, 2), (1, 2)))
    target, layout = read(real, "graph-kv", graph), read(real, "graph-kv", graph).layout
    wanted = full(real, layout.ids, layout.mask, layout.positions)[-len(target.after) :]
    assert np.abs(target.logits - wanted).max() < 1e-3
