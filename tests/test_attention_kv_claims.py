"""Claims of KV methods: they can hold, fail and stay open; caches are of one size; figures are the caches' own."""

from __future__ import annotations

import math
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

import workbench
from tests.tiny_lm import byte_tokenizer
from workbench import claims
from workbench.attention.kv import CompressedTarget, registry, resolve
from workbench.attention.kv.claims import Continuation, KVContext, Needles, Piece
from workbench.claims import HELD, INCONCLUSIVE, NOT_HELD, replicate
from workbench.data import Tokens
from workbench.errors import ArgumentError
from workbench.testing import tiny_lm


def context(pieces=3, **options):
    ids = np.random.default_rng(0).integers(60, 200, (pieces, 90))
    lm = workbench.wrap(tiny_lm("llama", vocab_size=256, max_position_embeddings=1024).module, byte_tokenizer())
    return KVContext(lm, Tokens.of(ids), **{"continuation": 20, **options})


class Made(Continuation):
    """With figures as told: own, other, and shares of bytes."""

    def figure(self, context, item, seed, method):
        own = method is not None and method.name == "knorm"
        noise = np.random.default_rng([item.index, seed, own]).normal(0, 0.01)
        return math.exp(self.figures[not own] + noise), self.sizes[not own], self.sizes[not own]


def judged(own, other, sizes=(0.25, 0.25), **options):
    check = Made(than="snapkv", **options)
    vars(check).update(figures=(own, other), sizes=sizes)
    return check(context(8), "knorm")


def test_the_verdict_follows_figures_and_sizes():
    held = judged(0.0, 0.5)
    assert (held.status, held.note) == (HELD, "25 % of the full cache's bytes")
    assert held.low < held.estimate < held.high < 1
    assert held.estimate == pytest.approx(math.exp(-0.5), rel=0.02)
    assert judged(0.5, 0.0).status == NOT_HELD
    assert judged(0.0, 0.0).status == INCONCLUSIVE
    assert judged(0.03, 0.0, at_most=1.05).status == HELD
    unequal = judged(0.0, 0.5, sizes=(0.25, 0.3))
    assert unequal.status == INCONCLUSIVE
    assert unequal.note.startswith("the caches differ")
    large = judged(0.0, 0.5, bytes_at_most=0.2)
    assert (large.status, large.note) == (NOT_HELD, "too large: 25 % of the full cache's bytes")


def test_perplexity_is_that_of_the_compressed_cache():
    ground = context()
    value, start, end = Continuation(budget=0.3).figure(ground, Piece("", 1), 0, resolve("knorm"))
    target = CompressedTarget(ground.lm, "knorm", 0.3)
    ids = ground.tokens.ids[1]
    target.forward(ids[:70])
    target.compress()
    assert start == pytest.approx(0.3)
    losses = []
    for token, after in pairwise(ids[70:]):
        logs = torch.log_softmax(torch.from_numpy(target.forward([int(token)]).logits[0]).double(), -1)
        losses.append(-float(logs[int(after)]))
    assert value == pytest.approx(math.exp(np.mean(losses)), rel=1e-5)
    assert end == pytest.approx(target.nbytes / target.dense_nbytes)
    full = Continuation().figure(ground, Piece("", 1), 0, None)
    assert full[1:] == (1, 1)
    assert full[0] != value
    assert len(ground._held) == 1  # the prompt was read once


def test_needles_count_as_found_or_not(monkeypatch):
    heard = []
    monkeypatch.setattr("workbench.attention.kv.claims.answers", lambda target, text: bool(heard.append(text)) or True)
    check = Needles(than="streaming", count=2, length=100)
    found = check(context(seeds=(0, 1)), "snapkv")
    assert (found.status, found.estimate) == (NOT_HELD, 0)  # both find all
    assert len({text.ids for text in heard}) == 4
    assert len(heard) == 8
    assert [run.item for run in found.runs] == ["needle at 25%", "needle at 75%"]
    assert check.asked == ("share of needles found in 100 tokens, less that of streaming, 25 % kept: at least 0.02")
    assert check.pair(context(), "snapkv", Piece("", 0), 0) == (1, 1)


@pytest.mark.parametrize("name", sorted(registry()))
def test_every_method_carries_a_claim_and_says_where_it_is_from(name):
    cls, known = registry()[name], claims.claims()
    assert known[name] is cls.claim
    assert cls.claim.needs is KVContext
    assert cls.claim.statement.endswith(".")
    assert cls.claim.setting
    header = " ".join(sys.modules[cls.__module__].__doc__.split())
    paper = cls.citation
    for said in (paper.authors.split(",")[0], paper.title, paper.arxiv):
        assert said.lower() in header.lower()
    outcome = replicate(name, context(seeds=(0,)))
    assert outcome.status in (HELD, NOT_HELD, INCONCLUSIVE)
    assert outcome.status != HELD or outcome.measurement.runs
    assert "tokens of a prompt" in outcome.to_text()
    assert outcome.conditions.summary().startswith("Model ")


def test_names_are_unique_over_all_sources():
    import importlib

    names = [n for s in claims.SOURCES for n, c in importlib.import_module(s).registry().items() if c.claim is not None]
    assert len(names) == len(set(names))


def test_errors():
    with pytest.raises(ArgumentError, match="at least one seed"):
        context(seeds=())
    with pytest.raises(ArgumentError, match="64 tokens more"):
        context(continuation=30)
