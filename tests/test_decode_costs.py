"""Measured costs of passes, the gate that weighs drafts by them, and the benchmark of decoding."""

import json

import numpy as np
import pytest

from workbench import cli
from workbench.decode import DraftTree, as_target, generate
from workbench.decode.acceptance import Greedy
from workbench.decode.bench import bench_decode, lossless
from workbench.decode.costs import VerifyCosts, costs_of, measure_costs
from workbench.decode.prompts import Prompt
from workbench.decode.run import Run
from workbench.decode.speculative._base import Drafter
from workbench.decode.speculative.gate import ChainYield, Gate, GatedDrafter, TreeYield
from workbench.decode.target import Forward, Target
from workbench.decode.verify import verify
from workbench.errors import ArgumentError
from workbench.execute import _clock
from workbench.testing import tiny_lm

STAIRS = VerifyCosts.given({1: 1.0, 2: 1.05, 4: 1.1, 8: 1.1, 16: 1.7, 24: 2.4})
STEEP = VerifyCosts.given({1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0})


class Ticking(Target):
    """A target whose clock is a counter: a pass over n tokens takes ``10 + n`` ticks, twice as long for trees."""

    tokenizer, source, vocabulary, hidden_size, context = None, "ticking", 7, 1, 256

    def __init__(self):
        self.held, self.now, self.sizes = 0, 0, []

    @property
    def length(self):
        return self.held

    def _forward(self, ids, parents, last, hidden):
        self.held += len(ids)
        self.sizes.append((len(ids), parents is not None, self.held - len(ids)))
        self.now += (10 + len(ids)) * (2 if parents is not None else 1)
        return Forward(np.zeros((1 if last else len(ids), 7), np.float32))

    def _gather(self, rows):
        raise NotImplementedError

    def crop(self, length=0):
        self.held = length


def test_measured_costs_are_medians_of_the_clock(monkeypatch):
    target = Ticking()
    monkeypatch.setattr("workbench.decode.costs.clock", lambda _: _clock.Clock("ticks", lambda: 10**9 * target.now))
    found = measure_costs(target, (1, 4, 8, 16), cached=100, rounds=2)
    assert found.sizes == (1, 4, 8, 16)
    assert found.seconds == (11.0, 14.0, 18.0, 26.0)
    assert found.tree_factor == 2.0
    assert (found.clock, found.cached) == ("ticks", 100)
    assert target.forwards == 0
    assert target.length == 0
    assert all(before == 100 for n, _, before in target.sizes[1:])  # every pass sees the same cache
    assert [found.ratio(n) for n in (1, 2, 4, 5, 16)] == pytest.approx([1, 14 / 11, 14 / 11, 18 / 11, 26 / 11])
    assert found.ratio(8, tree=True) == pytest.approx(36 / 11)
    assert found.break_even(7) == pytest.approx(18 / 11 - 1)
    assert json.dumps(found.note())


def test_costs_stay_with_the_model_and_fit_small_contexts():
    lm = tiny_lm("llama")
    found = costs_of(as_target(lm))
    assert costs_of(as_target(lm)) is found
    assert found.cached == 32
    assert found.sizes[-1] == 32
    assert "v(8)" in repr(found)
    assert "tokens in the cache" in found.to_text()
    with pytest.raises(ArgumentError, match="sizes"):
        measure_costs(as_target(lm), (0,))
    with pytest.raises(ArgumentError, match="the first of them 1"):
        VerifyCosts.given({2: 1.0})


@pytest.mark.parametrize("chance", [0.05, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("costs", [STAIRS, STEEP])
def test_the_gate_picks_the_size_with_the_largest_gain_per_cost(chance, costs):
    gate = Gate(costs)
    size, value = gate.size("x", ChainYield(chance), 15)
    worths = [sum(chance**i for i in range(n + 1)) / costs.ratio(n + 1) for n in range(1, 16)]
    if max(worths) > 1.1:
        assert size == 1 + int(np.argmax(worths))
    else:
        assert size == 0
    assert value == pytest.approx(1 / max(worths))


def test_yields_learn_shares():
    chain = ChainYield(0.5)
    for _ in range(400):
        chain.learn(7, 3)  # 3 accepted, then 1 refused
    assert chain.rate == pytest.approx(0.75, abs=0.02)
    chain = ChainYield(0.5)
    for _ in range(400):
        chain.learn(7, 7)  # never refused
    assert chain.rate > 0.98
    tree = TreeYield((0.5, 0.25, 0.25))
    for _ in range(400):
        tree.learn(3, 2)
    assert tree.gains(3)[-1] == pytest.approx(2, rel=0.1)


class Wrong(Drafter):
    """Always drafts, never right."""

    most = 7

    def __init__(self, token):
        self.token, self.asked = token, 0

    def propose(self, context, room):
        self.asked += 1
        return DraftTree.of([self.token] * room)


def test_a_gate_ends_drafts_that_do_not_pay_and_probes_within_its_budget():
    lm = tiny_lm("llama", eos_token_id=None, max_position_embeddings=512)
    plain = generate(lm, [11, 12, 13], max_new_tokens=120, detail=False)
    unused = next(t for t in range(97) if t not in plain.tokens)
    run = Run(as_target(lm), [11, 12, 13], limit=120, detail=False)
    inner, gate = Wrong(unused), Gate(STAIRS)
    drafter, sizes = GatedDrafter(inner, run, gate), []
    run.emit(int(run.prefill().logits[-1].argmax()))
    while not run.done:
        tree = drafter.propose(run.tokens, run.room) if run.room else DraftTree.of()
        sizes.append(len(tree))
        drafter.observe(verify(run, tree, Greedy()))
    assert run.tokens[3:] == plain.tokens.tolist()
    before_it_shut = next(n for n, asked in enumerate(sizes) if asked == 0)
    assert 3 <= before_it_shut <= 20
    assert gate.spent <= 0.01 * gate.passes
    trace = run.trace.finish("x", {}, run.prompt, str, None)
    declined = trace.rows("decline")
    assert len(declined) > 60
    assert (trace.columns["value"][declined] > 1 / 1.1 - 1e-6).all()
    steps = trace.columns["step"]
    drafts = set(steps[trace.rows("draft")].tolist())
    assert not drafts & set(steps[declined].tolist())


def test_bench_compares_texts_and_counts():
    lm = tiny_lm("llama", eos_token_id=None, max_position_embeddings=256)

    class Ids(Prompt):
        __slots__ = ()

        def ids(self, tokenizer):
            return [11, 40, 33, 11, 40, 33, 7, 11, 40, 33, 11]

    prompts = [Ids("one-1", "repeat", "", False), Ids("two-1", "story", "", False)]
    found = bench_decode({"transformers": lm}, prompts, methods=["prompt-lookup", "auto"], new_tokens=12, rounds=1)
    assert found.identical
    assert [(r.method, r.group, r.answers) for r in found.rows] == [
        (m, g, n) for m in ("auto", "prompt-lookup") for g, n in (("copy", 1), ("free", 1), ("all", 2))
    ]
    for sample in found.samples:
        assert sample.tokens == 11
        assert 0 < sample.passes <= 11
    assert json.dumps(found.to_dict())
    assert "identical" in found.to_text()
    assert {"prompt-lookup", "token-recycling", "stand", "opt-tree", "auto"} <= set(lossless())
    with pytest.raises(ArgumentError, match="at least one each"):
        bench_decode({}, prompts)


def test_a_difference_is_seen_and_fails_the_command(monkeypatch, capsys, tmp_path):
    from workbench.decode import _method, bench
    from workbench.decode.baseline.plain import Plain

    class Other(Plain):
        name = "other"

        def decode(self, run):
            run.prefill()
            while run.emit(5):
                run.forward([5])

    monkeypatch.setitem(_method.DECODERS.known, "other", Other)
    monkeypatch.setattr(bench, "lossless", lambda: ["other"])
    lm = tiny_lm("llama", eos_token_id=None, max_position_embeddings=512)
    monkeypatch.setattr("workbench.commands.bench_decode.runtimes", lambda *_: {"transformers": lm})
    monkeypatch.setattr(Prompt, "ids", lambda *_: [11, 12, 13])
    out = tmp_path / "out.json"
    assert cli.main(["bench-decode", "--quick", "--new-tokens", "6", "--json", str(out)]) == 1
    assert "0 of 8 answers identical" in capsys.readouterr().out
    content = json.loads(out.read_text())
    assert content["command"] == "bench-decode"
    assert not any(s["identical"] for s in content["samples"])
