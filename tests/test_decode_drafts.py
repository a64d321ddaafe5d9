"""Draft models: a cache in step, chains and trees, distributions against exact ones, and rules broken on purpose."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

import workbench
from workbench.decode import generate
from workbench.decode.acceptance import Trial, WithoutReplacement
from workbench.decode.run import Run
from workbench.decode.sampling import Sampler
from workbench.decode.speculative import _draft, rsd_s
from workbench.decode.speculative._draft import Follower, gumbel_top, top
from workbench.decode.speculative._own_draft import middle, own_draft, rounded, without_layers
from workbench.decode.speculative.draft_model import DraftModel
from workbench.decode.speculative.layer_skip import LayerSkip, choose_layers
from workbench.decode.speculative.multi_candidate import MultiCandidate
from workbench.decode.speculative.rsd_c import ConstantBranching
from workbench.decode.speculative.rsd_s import StochasticBeam, conditioned
from workbench.decode.target import Forward, Target, as_target
from workbench.decode.tree import ROOT, DraftTree
from workbench.errors import ArgumentError, Cancelled
from workbench.jobs import Progress
from workbench.testing import tiny_lm, tiny_tokens

NAMES = ("draft-model", "layer-skip", "rsd-c", "rsd-s", "multi-candidate")


class Table(Target):
    """A language model by hand: the logits after a token depend on it and on the one before."""

    tokenizer, source, hidden_size, context = None, "table", 1, 64

    def __init__(self, seed, vocabulary=4, sharpness=1.7):
        self.vocabulary, self.held, self.calls = vocabulary, [], []
        self.table = sharpness * np.random.default_rng(seed).normal(size=(vocabulary, vocabulary, vocabulary))

    @property
    def length(self):
        return len(self.held)

    def _forward(self, ids, parents, last, hidden):
        del hidden
        self.calls.append(len(ids))
        before = list(self.held)
        rows = []
        for n, token in enumerate(ids):
            p = n - 1 if parents is None else parents[n]
            above = ids[p] if p >= 0 else before[-1] if before else 0
            rows.append(self.table[above, token])
        self.held += [int(t) for t in ids]
        self._newest = len(ids)
        logits = np.array(rows, np.float32)
        return Forward(logits[-1:] if last else logits)

    def _gather(self, rows):
        start = len(self.held) - self._newest
        kept = [self.held[start + r] for r in rows]
        self.held[start : start + len(rows)] = kept

    def crop(self, length=0):
        assert 0 <= length <= len(self.held)
        del self.held[length:]

    def chances(self, text, length, sampler):
        """Every continuation of ``length`` tokens and its probability."""
        found = {}
        for more in itertools.product(range(self.vocabulary), repeat=length):
            chance, whole = 1.0, [*text, *more]
            for n in range(len(text), len(whole)):
                chance *= sampler.probabilities(self.table[whole[n - 2], whole[n - 1]].astype(np.float32))[whole[n]]
            found[more] = chance
        return found


PROMPT = (1, 2)


class Short(Run):
    """A run that is over after a few tokens, though drafts have room for more."""

    enough = 3

    def emit(self, *args, **columns):
        goes_on = super().emit(*args, **columns)
        if self.emitted == self.enough:
            self.finished = "enough"
        return goes_on and not self.done


def drawn(method, samples, sampler, target):
    """How often each continuation of three tokens comes out."""
    counts = Counter()
    for n in range(samples):
        run = Short(target, PROMPT, sampler=sampler, seed=n, limit=40, detail=False)
        method.decode(run)
        counts[tuple(run.tokens[len(PROMPT) :])] += 1
        target.crop()
    return counts


def p_value(counts, chances):
    """Of a chi-square test; cells that expect fewer than 5 are merged."""
    total, cells, rest = sum(counts.values()), [], [0.0, 0.0]
    for outcome, chance in chances.items():
        cell = (counts.get(outcome, 0), total * chance)
        if cell[1] >= 5:
            cells.append(cell)
        else:
            rest = [rest[0] + cell[0], rest[1] + cell[1]]
    if rest[1] > 0:
        cells.append(tuple(rest))
    statistic = sum((o - e) ** 2 / max(e, 1e-9) for o, e in cells)
    half = torch.tensor([(len(cells) - 1) / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


METHODS = {
    "chain": lambda d: DraftModel(d, draft_tokens=4, confidence=0.0),
    "chain, unsure": lambda d: DraftModel(d, draft_tokens=4, confidence=0.4),
    "rsd-c 3": lambda d: ConstantBranching(d, (3,)),
    "rsd-c 2 2 1": lambda d: ConstantBranching(d, (2, 2, 1)),
    "rsd-c all": lambda d: ConstantBranching(d, (4, 2)),
    "rsd-s 2 3": lambda d: StochasticBeam(d, 2, 3),
    "rsd-s 3 3": lambda d: StochasticBeam(d, 3, 3),
    "rsd-s 5 2": lambda d: StochasticBeam(d, 5, 2),
    "multi": lambda d: MultiCandidate(d, (3, 2, 1), 0.0),
    "multi, stops": lambda d: MultiCandidate(d, (2, 2, 2), 0.8),
}


@pytest.mark.parametrize("name", METHODS)
def test_texts_have_the_targets_distribution(name):
    target, sampler = Table(1), Sampler(1.0)
    counts = drawn(METHODS[name](Table(2)), 1500, sampler, target)
    assert p_value(counts, target.chances(PROMPT, 3, sampler)) > 1e-4


@pytest.mark.parametrize("name", ["chain", "rsd-c 2 2 1", "rsd-s 3 3"])
def test_filters_apply_to_the_draft_too(name):
    target, sampler = Table(1), Sampler(0.8, top_k=3, min_p=0.1)
    counts = drawn(METHODS[name](Table(2)), 1500, sampler, target)
    chances = target.chances(PROMPT, 3, sampler)
    assert all(chances[text] > 0 for text in counts)
    assert p_value(counts, chances) > 1e-4


def _broken(monkeypatch, change):
    """Let every tree pass through ``change`` before it is verified."""
    propose = _draft.Levels.propose
    monkeypatch.setattr(_draft.Levels, "propose", lambda self, *args: change(propose(self, *args)))


def _siblings_reversed(tree):
    """The same tree with siblings in rising order of their keys."""
    order, todo = [], [ROOT]
    while todo:
        below = [c for node in todo for c in tree.children.get(node, ())[::-1]]
        order, todo = order + below, below
    place = {ROOT: ROOT} | {n: k for k, n in enumerate(order)}
    q = {place[n]: v for n, v in tree.q.items()}
    return DraftTree.of(tree.tokens[order], [place[int(tree.parents[n])] for n in order], tree.log_q[order], q)


@pytest.mark.parametrize("name", ["rsd-c 3", "rsd-s 3 3"])
def test_siblings_in_another_order_are_seen(monkeypatch, name):
    _broken(monkeypatch, _siblings_reversed)
    target, sampler = Table(1), Sampler(1.0)
    counts = drawn(METHODS[name](Table(2)), 1500, sampler, target)
    assert p_value(counts, target.chances(PROMPT, 3, sampler)) < 1e-4


class _Careless(WithoutReplacement):
    """Forgets to take what was refused out of q."""

    def step(self, p, tree, node, random, trials):
        q = tree.q[node]
        for child in tree.children[node]:
            x = int(tree.tokens[child])
            trials.append(Trial(child, bool(random.random() * q[x] < p[x])))
            if trials[-1].accepted:
                return child, p
            rest = np.maximum(p - q, 0.0)
            p = rest / rest.sum() if rest.sum() > 0 else p
        return None, p


@pytest.mark.parametrize("name", ["rsd-c 3", "rsd-s 5 2", "multi"])
def test_a_rule_that_keeps_refused_tokens_in_q_is_seen(monkeypatch, name):
    method = METHODS[name](Table(2))
    monkeypatch.setattr(type(method), "rule", lambda *_: _Careless())
    target, sampler = Table(1), Sampler(1.0)
    counts = drawn(method, 1500, sampler, target)
    assert p_value(counts, target.chances(PROMPT, 3, sampler)) < 1e-4


def test_a_chain_that_takes_unlikely_tokens_back_is_seen(monkeypatch):
    propose = _draft.Chain.propose

    def cut(self, context, room):
        tree = propose(self, context, room)
        return tree.first(len(tree) - int(np.exp(tree.log_q[-1]) < self.confidence))

    monkeypatch.setattr(_draft.Chain, "propose", cut)
    target, sampler = Table(1), Sampler(1.0)
    counts = drawn(DraftModel(Table(2), 4, 0.4), 1500, sampler, target)
    assert p_value(counts, target.chances(PROMPT, 3, sampler)) < 1e-4


def test_candidates_from_the_target_itself_are_exact_and_only_the_first_counts():
    random, p = np.random.default_rng(0), np.array([0.5, 0.3, 0.15, 0.05])
    logits, counts = np.log(p).astype(np.float32), Counter()
    for _ in range(3000):
        tokens, keys = gumbel_top(p, 3, random)
        tree = DraftTree.of(tokens, [ROOT] * 3, keys, {ROOT: Sampler(1.0).probabilities(logits)})
        verdict = WithoutReplacement().judge(tree, lambda _: logits, Sampler(1.0), random)
        assert verdict.path == (0,)
        assert len(verdict.trials) == 1
        counts[int(tokens[0])] += 1
    assert p_value(counts, dict(enumerate(p))) > 1e-4


def test_gumbel_top_draws_one_after_the_other_without_replacement():
    random, q = np.random.default_rng(3), np.array([0.5, 0.0, 0.25, 0.15, 0.1])
    counts = Counter(tuple(gumbel_top(q, 2, random)[0].tolist()) for _ in range(4000))
    chances = {
        (a, b): q[a] * q[b] / (1 - q[a]) for a, b in itertools.permutations(range(5), 2) if q[a] > 0 and q[b] > 0
    }
    assert p_value(counts, chances) > 1e-4
    assert sorted(gumbel_top(q, 9, random)[0].tolist()) == [0, 2, 3, 4]
    assert top(np.array([1.0, 3.0, 3.0, -np.inf]), 3)[0].tolist() == [1, 2, 0]


def test_conditioned_noises_have_the_parent_as_their_maximum_and_the_right_law():
    assert conditioned(np.array([0.3, 0.3 - 1e-13, -40.0]), 7.0)[0] == 7.0
    keys, parent = np.array([1.7, 0.4, -3.0]), 0.9
    plain = -np.log(np.exp(-parent) - np.exp(-keys[0]) + np.exp(-keys))
    np.testing.assert_allclose(conditioned(keys, parent), plain, rtol=1e-12)
    # a parent's noise drawn first, its children's after it, are Gumbel noises at log q again
    random, q = np.random.default_rng(5), np.array([0.6, 0.3, 0.1])
    below = np.zeros(3)
    for _ in range(4000):
        parent = -math.log(random.standard_exponential())
        tokens, keys = gumbel_top(q, 3, random)
        below[tokens] += conditioned(keys, parent) < 0
    expected = np.exp(-q)  # P(log q + g < 0)
    assert np.all(np.abs(below / 4000 - expected) < 4.5 * np.sqrt(expected * (1 - expected) / 4000))


def test_stochastic_beam_draws_texts_without_replacement():
    """The first level of leaves is the top w of all texts by Gumbel noise: a sample without replacement of texts."""
    draft, counts, sampler = Table(2, vocabulary=3), Counter(), Sampler(1.0)
    target = Table(1, vocabulary=3)
    for n in range(3000):
        run = Run(target, PROMPT, sampler=sampler, seed=n, detail=False)
        tree = rsd_s._Beam(run, Follower(run, draft), 2, 2).propose(PROMPT, 60)
        leaves = [k for k in range(len(tree)) if tree.depth[k] == 1]
        counts[tuple(tuple(tree.texts(k)) for k in leaves)] += 1
    q = draft.chances(PROMPT, 2, sampler)
    pairs = {(a, b): q[a] * q[b] / (1 - q[a]) for a, b in itertools.permutations(q, 2)}
    assert p_value(counts, pairs) > 1e-4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["transformers", "compiled"])
def test_greedy_text_is_that_of_plain_decoding(name, kind):
    lm = tiny_lm(hidden_size=64, num_attention_heads=2, num_key_value_heads=1)
    model = workbench.compile(lm, "dense") if kind == "compiled" else lm
    plain = generate(model, [5, 6, 7, 8], max_new_tokens=20, detail=False)
    found = generate(model, [5, 6, 7, 8], name, max_new_tokens=20, detail=False)
    assert found.tokens.tolist() == plain.tokens.tolist()
    assert found.trace.cost.draft_forwards > 0


@pytest.mark.parametrize("name", NAMES)
def test_default_draft_on_a_model_that_has_no_compiled_runtime(name):
    lm = tiny_lm("gpt2")
    plain = generate(lm, [5, 6, 7], max_new_tokens=12, detail=False)
    assert generate(lm, [5, 6, 7], name, max_new_tokens=12, detail=False).tokens.tolist() == plain.tokens.tolist()


def test_a_perfect_draft_is_accepted_whole_and_its_passes_are_counted():
    target, draft = Table(1, vocabulary=11, sharpness=3.0), Table(1, vocabulary=11, sharpness=3.0)
    found = generate(target, [1, 2], DraftModel(draft, draft_tokens=4, confidence=0.0), max_new_tokens=16)
    assert found.trace.cost.target_forwards == 3
    assert found.trace.acceptance.by_position == (1.0, 1.0, 1.0, 1.0)
    assert found.trace.cost.draft_forwards == 12
    # first the whole text, then what was accepted last and the bonus token; else one token each
    assert draft.calls == [3, 1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1]
    log_q = found.trace.columns["log_q"][found.trace.rows("draft")]
    assert np.all(log_q <= 0)


def test_trees_take_one_draft_pass_per_level():
    target, draft = Table(1, vocabulary=11), Table(2, vocabulary=11)
    run = Run(target, PROMPT, sampler=Sampler(1.0), detail=False)
    drafter = ConstantBranching(draft, (3, 2, 1)).drafter(run)
    tree = drafter.propose(PROMPT, 60)
    assert draft.calls == [2, 3, 9]
    assert np.bincount(tree.depth).tolist() == [3, 6, 6]
    assert run.trace.draft_forwards == 3
    for node, q in tree.q.items():
        text = [*PROMPT, *tree.texts(node)]
        np.testing.assert_allclose(q, Sampler(1.0).probabilities(draft.table[text[-2], text[-1]].astype(np.float32)))
    assert len(drafter.propose(PROMPT, 5)) == 5


def test_drafting_stops_where_it_is_unsure():
    flat = Table(2, vocabulary=8, sharpness=0.01)
    run = Run(Table(1, vocabulary=8), PROMPT, detail=False)
    assert len(DraftModel(flat, 5, 0.4).drafter(run).propose(PROMPT, 60)) == 1
    assert len(DraftModel(flat, 5, 0.0).drafter(run).propose(PROMPT, 60)) == 5
    assert np.bincount(MultiCandidate(flat, (3, 2, 2), 0.5).drafter(run).propose(PROMPT, 60).depth).tolist() == [3]
    assert len(MultiCandidate(flat, (3, 2, 2), 0.0).drafter(run).propose(PROMPT, 60)) == 21


def test_a_draft_with_less_room_than_the_target_declines():
    target, draft = Table(1), Table(2)
    draft.context = 6
    plain = generate(target, [1, 2], max_new_tokens=16, detail=False)
    for method in (DraftModel(draft), ConstantBranching(draft), StochasticBeam(draft), MultiCandidate(draft)):
        assert (
            generate(target, [1, 2], method, max_new_tokens=16, detail=False).tokens.tolist() == plain.tokens.tolist()
        )


def test_skipped_layers_share_weights_and_leave_the_model_alone():
    lm = tiny_lm()
    before, target = lm.fingerprint, as_target(lm)
    thin = without_layers(target, (1, 2))
    assert thin is without_layers(target, [2, 1])
    own, theirs = lm.architecture, thin.architecture
    assert theirs.num_layers == 2
    for mine, of in ((0, 0), (1, 3)):
        pairs = zip(theirs.layers[mine].parameters(), own.layers[of].parameters(), strict=True)
        assert all(a is b for a, b in pairs)
    assert lm.fingerprint == before
    assert own.num_layers == lm.module.config.num_hidden_layers == 4
    whole = without_layers(target, ())
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(whole.module(ids).logits, lm.module(ids).logits)


def test_compiled_model_without_layers_is_the_thinned_model_compiled():
    lm = tiny_lm(hidden_size=64, num_attention_heads=2, num_key_value_heads=1)
    compiled = workbench.compile(lm, "dense")
    thin = without_layers(as_target(compiled), (1,))
    wanted = workbench.compile(without_layers(as_target(lm), (1,)), "dense")
    assert thin.decoder.weights.layers[1].qkv is compiled.decoder.weights.layers[2].qkv
    np.testing.assert_array_equal(thin.forward([5, 6, 7]), wanted.forward([5, 6, 7]))
    assert compiled.position == 0
    copy = rounded(compiled)
    exact = workbench.compile(lm, "auto", "int8")
    np.testing.assert_array_equal(copy.forward([5, 6, 7]), exact.forward([5, 6, 7]))
    assert own_draft(as_target(compiled)) is own_draft(as_target(compiled))
    assert own_draft(as_target(exact)).source == "tiny-llama, 1 layers skipped"


def test_layers_are_chosen_by_similarity():
    lm, tokens = tiny_lm(), tiny_tokens()
    assert choose_layers(lm, 0, tokens) == ()
    states = []
    hooks = [x.register_forward_hook(lambda _m, i, o: states.append((i[0], o))) for x in lm.architecture.layers]
    with torch.no_grad():
        lm.module(torch.from_numpy(tokens.ids), use_cache=False)
    for hook in hooks:
        hook.remove()
    cosines = [float(torch.cosine_similarity(a, b, dim=-1).mean()) for a, b in states]
    assert choose_layers(lm, 2, tokens) == tuple(sorted(sorted(range(4), key=lambda n: -cosines[n])[:2]))
    assert middle(as_target(lm), 0.5) == (1, 2)
    assert middle(as_target(lm), 0.0) == ()


def test_pruned_and_sparse_models_draft():
    lm = tiny_lm(hidden_size=64, num_attention_heads=2, num_key_value_heads=1)
    pruned = workbench.prune(lm, "magnitude", 0.5)
    plain = generate(lm, [5, 6, 7], max_new_tokens=10, detail=False)
    for draft in (pruned, workbench.sparsify(pruned, "bitmap"), workbench.compile(pruned, "bitmap")):
        found = generate(lm, [5, 6, 7], "draft-model", draft=draft, max_new_tokens=10, detail=False)
        assert found.tokens.tolist() == plain.tokens.tolist()
    assert found.trace.parameters["draft"] == "tiny-llama"


def test_errors_say_what_would_be_right():
    lm = tiny_lm(hidden_size=64, num_attention_heads=2, num_key_value_heads=1)
    compiled = workbench.compile(lm, "dense")
    with pytest.raises(ArgumentError, match="draft and model share one cache"):
        generate(compiled, [5, 6], "draft-model", draft=compiled)
    with pytest.raises(ArgumentError, match="share one cache"):
        generate(compiled, [5, 6], "rsd-s", draft=replace(compiled, source="another"))
    target = as_target(lm)
    with pytest.raises(ArgumentError, match="share one cache"):
        generate(target, [5, 6], "rsd-c", draft=target)
    with pytest.raises(ArgumentError, match="draft knows 50 tokens, the model 97"):
        generate(lm, [5, 6], "draft-model", draft=tiny_lm(vocab_size=50))
    with pytest.raises(ArgumentError, match="no draft can be made of a Table"):
        generate(Table(1), [1, 2], "draft-model")
    with pytest.raises(ArgumentError, match="cannot be skipped: some of 0 to 3"):
        generate(lm, [5, 6], "layer-skip", skip=(4,))
    for bad in (
        lambda: DraftModel(draft_tokens=0),
        lambda: DraftModel(confidence=2.0),
        lambda: LayerSkip(skip=1.0),
        lambda: ConstantBranching(branching=()),
        lambda: StochasticBeam(width=0),
        lambda: MultiCandidate(stop_below=-1.0),
        lambda: choose_layers(lm, 4),
    ):
        with pytest.raises(ArgumentError, match="="):
            bad()


def test_cancelling_ends_a_draft():
    progress = Progress()
    progress.listener = lambda *_: progress.cancel()
    with pytest.raises(Cancelled):
        generate(Table(1), [1, 2], DraftModel(Table(2)), max_new_tokens=16, progress=progress)
