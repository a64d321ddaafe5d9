"""Free drafters: prompt lookup, Token Recycling, STAND, OPT-Tree and auto against slow references and exact chances."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from workbench.decode import DraftTree, Sampler, generate, resolve
from workbench.decode.costs import VerifyCosts
from workbench.decode.run import Run
from workbench.decode.speculative._ngrams import Ngrams, likeliest
from workbench.decode.speculative._templates import template
from workbench.decode.speculative._top import top_tokens
from workbench.decode.speculative.gate import Gate
from workbench.decode.speculative.opt_tree import PathYield, best_tree
from workbench.decode.speculative.prompt_lookup import Lookup
from workbench.decode.speculative.stand import Stand
from workbench.decode.speculative.token_recycling import Recycled, TokenRecycling, measured_ranks
from workbench.decode.target import Forward, Target
from workbench.decode.tree import ROOT
from workbench.errors import ArgumentError
from workbench.testing import tiny_lm

NAMES = ("prompt-lookup", "token-recycling", "stand", "opt-tree", "auto")
FLAT = VerifyCosts.given({1: 1.0, 2: 1.01, 32: 1.02})
PROMPT = [11, 40, 33, 11, 40, 33, 7, 11, 40, 33, 11]


@pytest.fixture(scope="module")
def lm():
    return tiny_lm("llama", eos_token_id=None, max_position_embeddings=256)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{}, {"costs": FLAT}, {"gate": False}])
def test_the_text_is_plain_decodings(lm, name, options):
    if name == "auto" and "gate" in options:
        options = {"costs": FLAT}
    plain = generate(lm, PROMPT, max_new_tokens=40, detail=False)
    found = generate(lm, PROMPT, name, max_new_tokens=40, **options)
    assert found.tokens.tolist() == plain.tokens.tolist()
    if options.get("costs") is FLAT:
        assert found.trace.cost.verified > found.trace.cost.target_forwards
        assert found.trace.notes["costs"]["clock"] == "given"


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_tokens(lm, name):
    settings = {"max_new_tokens": 16, "temperature": 0.9, "detail": False, "costs": FLAT}
    first, again, other = (generate(lm, PROMPT, name, seed=s, **settings).tokens.tolist() for s in (3, 3, 4))
    assert first == again
    assert first != other


# --- lookup


def slow_lookup(context, most, longest, shortest, first):
    for n in range(min(longest, len(context) - 1), shortest - 1, -1):
        ends = [e for e in range(n, len(context)) if context[e - n : e] == context[-n:]]
        if ends:
            end = ends[0] if first else ends[-1]
            return context[end : end + most]
    return []


@pytest.mark.parametrize(("longest", "shortest", "first"), [(3, 1, False), (3, 1, True), (12, 2, False), (1, 1, False)])
def test_lookup_finds_what_a_scan_finds(longest, shortest, first):
    random = np.random.default_rng(longest + shortest)
    for _ in range(20):
        text = random.integers(0, 3, 40).tolist()
        lookup = Lookup(5, longest, shortest, first=first)
        for end in range(2, len(text) + 1):
            found = lookup.propose(text[:end], 9).tokens.tolist()
            assert found == slow_lookup(text[:end], 5, longest, shortest, first)


# --- the largest of each row


@pytest.mark.parametrize("size", [8, 97, 1000, 4099])
def test_top_tokens_are_those_of_a_sort(size):
    logits = np.random.default_rng(size).normal(size=(5, size)).astype(np.float32)
    logits[1] = np.sort(logits[1])[::-1]  # all of the largest stand together
    logits[2, : min(8, size) * 2] += 9
    expected = np.argsort(-logits, axis=1)[:, :8]
    np.testing.assert_array_equal(top_tokens(logits, 8), expected)


# --- Token Recycling


def test_templates_are_trees_best_first():
    for seen in (1, 2):
        shape = template(seen)
        assert list(shape.chances) == sorted(shape.chances, reverse=True)
        assert all(parent < n for n, parent in enumerate(shape.parents))
        assert len(set(_paths(shape, len(shape.ranks)))) == len(shape.ranks) + 1


class Watched(Target):
    """Logits by hand: a fixed permutation of the vocabulary after every token; remembers what it was asked."""

    tokenizer, source, hidden_size, context = None, "watched", 1, 512

    def __init__(self, seed, vocabulary=30, contexts=1):
        self.vocabulary, self.held, self.contexts = vocabulary, [], contexts
        self.table = 3 * np.random.default_rng(seed).normal(size=(vocabulary,) * (contexts + 1)).astype(np.float32)
        self.seen = []

    @property
    def length(self):
        return len(self.held)

    def after(self, before, token):
        return self.table[token] if self.contexts == 1 else self.table[before, token]

    def _forward(self, ids, parents, last, hidden):
        start, rows = list(self.held), []
        for n, token in enumerate(ids.tolist()):
            p = n - 1 if parents is None else int(parents[n])
            before = int(ids[p]) if p >= 0 else (start[-1] if start else 0)
            rows.append(self.after(before, token))
            self.seen.append((before, token))
        self.held += ids.tolist()
        self._newest = len(ids)
        return Forward(np.array(rows[-1:] if last else rows))

    def _gather(self, rows):
        start = len(self.held) - self._newest
        self.held[start : start + len(rows)] = [self.held[start + r] for r in rows]

    def crop(self, length=0):
        del self.held[length:]


def test_recycling_keeps_the_top_eight_of_every_verified_node():
    target, state = Watched(0), Recycled()
    generate(target, [1, 2, 3], TokenRecycling(state=state, gate=False, learn_prompt=False), max_new_tokens=40)
    looked_at = {token for _, token in target.seen[2:]}
    assert set(state.after) == looked_at
    for token, row in state.after.items():
        assert row == np.argsort(-target.table[token])[:8].tolist()
    for (_, token), row in state.after_two.items():
        assert row == state.after[token]
    assert len(target.seen) > 45  # trees, not single tokens


def test_with_all_rows_known_the_whole_first_path_is_accepted():
    target, state = Watched(0), Recycled()
    for token in range(30):
        state.put(-1, token, np.argsort(-target.table[token])[:8].tolist(), 1)
    method = TokenRecycling(state=state, gate=False, context=1, nodes=7, learn_prompt=False)
    found = generate(target, [1, 2, 3], method, max_new_tokens=50)
    depth = max(len(p) for p in _paths(template(1), 7))
    assert found.trace.cost.target_forwards == -(-49 // (depth + 1))
    assert found.tokens.tolist() == generate(target, [1, 2, 3], max_new_tokens=50).tokens.tolist()


def _paths(shape, nodes):
    found = {ROOT: ()}
    for n in range(nodes):
        found[n] = (*found[shape.parents[n]], shape.ranks[n])
    return list(found.values())


def test_a_state_is_carried_only_if_it_is_handed_on():
    target = Watched(1, contexts=2)
    cold = [generate(target, [1, 2, 3], TokenRecycling(gate=False), max_new_tokens=40) for _ in range(2)]
    passes = [g.trace.cost.target_forwards for g in cold]
    assert passes[0] == passes[1]
    state = Recycled()
    warm = [generate(target, [1, 2, 3], TokenRecycling(gate=False, state=state), max_new_tokens=40) for _ in range(2)]
    assert warm[0].trace.cost.target_forwards == passes[0]
    assert warm[1].trace.cost.target_forwards < passes[0]
    assert warm[1].trace.parameters["state"].startswith("Recycled(")


def test_measured_ranks_are_those_of_the_text():
    target = Watched(2)
    answer = generate(target, [1, 2, 3], max_new_tokens=30).tokens.tolist()
    found = measured_ranks(target, [1, 2, 3], answer, nodes=7)
    assert all(kind in (0, 1) and all(r == 0 for r in ranks) for kind, *ranks in found)  # greedy text, fixed rows
    assert sum(len(r) for r in found) > len(found)


# --- n-gram tables and STAND


def test_ngrams_hold_running_means():
    random, table = np.random.default_rng(0), Ngrams((3, 2), width=4)
    rows = []
    for _ in range(5):
        p = random.dirichlet(np.ones(6))
        best = np.argsort(-p)[:6]
        rows.append(p)
        table.learn([7, 8, 9], best, p[best])
    full = Ngrams((3, 2), width=6)
    for p in rows:
        full.learn([7, 8, 9], np.arange(6), p)
    mean = np.mean(rows, axis=0)
    length, tokens, chances = full.find([1, 7, 8, 9])
    assert length == 3
    np.testing.assert_allclose(chances, np.sort(mean)[::-1])
    np.testing.assert_array_equal(tokens, np.argsort(-mean))
    assert full.find([5, 8, 9])[0] == 2
    assert full.find([9, 8]) is None
    assert len(table.find([7, 8, 9])[1]) == 4


def test_likeliest_are_softmax_probabilities():
    logits = 4 * np.random.default_rng(1).normal(size=(3, 500)).astype(np.float32)
    for temperature in (1.0, 0.7):
        exact = torch.softmax(torch.from_numpy(logits).double() / temperature, 1).numpy()
        tokens, chances = likeliest(logits, 10, temperature)
        np.testing.assert_allclose(chances, np.sort(exact, axis=1)[:, :-11:-1], rtol=1e-5)
        np.testing.assert_array_equal(tokens, np.argsort(-exact, axis=1)[:, :10])


def drawn(method, target, samples, length):
    counts = Counter()
    for seed in range(samples):
        run = Run(target, [1, 2, 1, 2], sampler=Sampler(1.0), seed=seed, limit=length + 3, detail=False)
        method().decode(run)
        counts[tuple(run.tokens[4 : 4 + length])] += 1
        target.crop()
    return counts


def exact(target, length):
    found = {}
    for more in itertools.product(range(target.vocabulary), repeat=length):
        text, chance = [1, 2, 1, 2, *more], 1.0
        for n in range(4, len(text)):
            p = torch.softmax(torch.from_numpy(target.after(text[n - 2], text[n - 1])).double(), 0)
            chance *= float(p[text[n]])
        found[more] = chance
    return found


def p_value(counts, chances):
    total = sum(counts.values())
    cells = [(counts.get(k, 0), total * c) for k, c in chances.items() if total * c >= 5]
    rest = total - sum(o for o, _ in cells), total - sum(e for _, e in cells)
    cells += [rest] if rest[1] > 1 else []
    statistic = sum((o - e) ** 2 / e for o, e in cells)
    a, x = torch.tensor((len(cells) - 1) / 2, dtype=torch.float64), torch.tensor(statistic / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(a, x))


def small():
    target = Watched(5, vocabulary=4, contexts=2)
    target.table /= 2.5
    return target


METHODS = {
    "stand": lambda: Stand(gate=False, nodes=6, branches=(3, 2)),
    "stand, gated": lambda: Stand(costs=FLAT),
    "recycling": lambda: TokenRecycling(gate=False, nodes=7),
    "opt-tree": lambda: resolve("opt-tree", {"costs": FLAT}),
    "auto": lambda: resolve("auto", {"costs": FLAT}),
}


@pytest.mark.parametrize("name", METHODS)
def test_texts_are_distributed_as_without_drafts(name):
    target = small()
    assert p_value(drawn(METHODS[name], target, 1500, 3), exact(target, 3)) > 1e-4


def test_the_distribution_test_sees_a_broken_draft(monkeypatch):
    """STAND's drafts verified with another q than they were drawn from: the text is biased, and it shows."""
    target, of = small(), DraftTree.of

    def flat(tokens, parents=None, log_q=None, q=None):
        return of(tokens, parents, log_q, {n: np.full_like(v, 0.25) for n, v in (q or {}).items()})

    monkeypatch.setattr("workbench.decode.speculative.stand.DraftTree", type("Flat", (), {"of": staticmethod(flat)}))
    assert p_value(drawn(METHODS["stand"], target, 1500, 3), exact(target, 3)) < 1e-6


def test_stand_takes_the_likeliest_at_temperature_zero():
    target = Watched(3)
    found = generate(target, [1, 2, 3], Stand(gate=False, branches=(2, 1)), max_new_tokens=60)
    trace = found.trace
    drafts = trace.rows("draft")
    assert drafts.size
    first = [r for r in drafts if trace.columns["parent"][r] < 0]
    by_step = itertools.groupby(first, key=lambda r: trace.columns["step"][r])
    assert all(
        (np.diff([trace.columns["log_q"][r] for r in rows]) <= 0).all() for rows in (list(g) for _, g in by_step)
    )


# --- OPT-Tree


def every_subtree(children, most, depth):
    """The largest expected number of accepted tokens of any tree of at most ``most`` nodes, by trying all."""
    nodes = {(): 1.0}
    level = [()]
    for _ in range(depth):
        level = [(*path, t) for path in level for t, _ in children(0, path)]
        for path in level:
            nodes[path] = nodes[path[:-1]] * dict(children(0, path[:-1]))[path[-1]]
    inner = [p for p in nodes if p]
    best = {}
    for count in range(1, most + 1):
        best[count] = max(
            sum(nodes[p] for p in chosen)
            for chosen in itertools.combinations(inner, count)
            if all(p[:-1] in chosen or len(p) == 1 for p in chosen)
        )
    return best


@pytest.mark.parametrize("seed", range(4))
def test_the_best_tree_is_the_best_of_all_trees(seed):
    random, rows = np.random.default_rng(seed), {}

    def children(_, path):
        if path not in rows:
            rows[path] = random.dirichlet((0.6, 0.6, 0.6))[:2]
        return list(enumerate(rows[path]))

    best = every_subtree(lambda _, path: children(_, tuple(path)), 5, 3)
    tree = best_tree(children, 5, 3)
    gains = np.cumsum(np.exp(tree.log_q.astype(np.float64)))
    for count, expected in best.items():
        assert gains[count - 1] == pytest.approx(expected, rel=1e-5)
        assert len(tree.first(count)) == count
    costs = VerifyCosts.given({1: 1.0, 2: 1.2, 3: 1.5, 4: 1.55, 5: 1.9, 6: 2.4})
    size, _ = Gate(costs).size("tree", PathYield(np.exp(tree.log_q).tolist()), 5)
    worths = {n: (1 + e) / costs.ratio(n + 1) for n, e in best.items()}
    assert size == (max(worths, key=worths.get) if max(worths.values()) > 1.1 else 0)


def test_opt_tree_drafts_with_a_model_too(lm):
    plain = generate(lm, PROMPT, max_new_tokens=24, detail=False)
    same = tiny_lm("llama", eos_token_id=None, max_position_embeddings=256)
    found = generate(lm, PROMPT, "opt-tree", draft=same, costs=FLAT, gate=False, nodes=6, max_new_tokens=24)
    assert found.tokens.tolist() == plain.tokens.tolist()
    assert found.trace.cost.draft_forwards > 0
    assert found.trace.cost.tokens_per_forward > 1.5


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("prompt-lookup", {"min_ngram": 4, "max_ngram": 3}, "min_ngram=4"),
        ("token-recycling", {"nodes": 99}, "nodes=99"),
        ("token-recycling", {"state": 3}, "state=3"),
        ("stand", {"branches": ()}, "branches"),
        ("stand", {"state": 3}, "state=3"),
        ("opt-tree", {"depth": 0}, "depth=0"),
        ("auto", {"nodes": 0}, "nodes=0"),
    ],
)
def test_arguments_are_named(name, options, message):
    with pytest.raises(ArgumentError, match=message):
        resolve(name, options)
