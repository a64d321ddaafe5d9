"""Metrics equal their definitions, and heads that were planted are found."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.attention import METRICS, HeadTable, Passing, Settings, capture, classify, heads, induction, watched
from workbench.attention.capturing import _Counts, read
from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.testing import tiny_lm, tiny_tokens

N = 60


def planted(pattern):
    """What is captured of attention maps made by hand: ``pattern(i)`` are the shares of row i."""
    lm = tiny_lm(num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, head_dim=32, hidden_size=32)
    ids = np.arange(3, 3 + N)
    counted = _Counts(lm, N, Settings(sinks=2, local=6, first=10, near=2, far=9, sample=1), Progress(), 1)

    def observer(passing):
        wanted = torch.full((N, N), -1e30)
        for i in range(N):
            for j, share in pattern(i).items():
                wanted[i, j] = float(np.log(share))
        products = lambda _self, _head, keys: torch.nn.functional.pad(wanted, (0, len(keys) - N))  # noqa: E731
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Passing, "products", products)
            return counted(passing)

    with torch.no_grad(), watched(lm, observer):
        read(lm, ids)
    return counted.captured(ids)


def value(name, captured):
    return float(METRICS[name][1](captured)[0, 0])


def test_planted_heads_have_the_metrics_of_their_definitions():
    sink = planted(lambda i: {0: 0.7, i: 0.3} if i else {0: 1.0})
    assert value("sink", sink) == pytest.approx(0.7, abs=1e-6)
    assert value("local", sink) == pytest.approx(0.3, abs=1e-6)
    assert value("entropy", sink) == pytest.approx(-(0.7 * np.log(0.7) + 0.3 * np.log(0.3)), abs=1e-5)
    assert value("keys for 90 %", sink) == 2
    previous = planted(lambda i: {max(i - 1, 0): 1.0})
    assert value("previous token", previous) == pytest.approx(1, abs=1e-5)
    assert value("effective keys", previous) == pytest.approx(1, abs=1e-5)
    assert value("WAAD", previous) == pytest.approx(1, abs=1e-5)
    even = planted(lambda i: dict.fromkeys(range(i + 1), 1 / (i + 1)))
    assert value("effective keys", even) == pytest.approx(np.mean(np.arange(11, N + 1)), rel=1e-4)
    assert value("keys for 90 %", even) == pytest.approx(
        np.mean([np.ceil(0.9 * (i + 1)) for i in range(10, N)]), rel=0.01
    )
    slash = planted(lambda i: {i - 20: 1.0} if i >= 20 else {i: 1.0})
    assert value("slash", slash) == pytest.approx((N - 20) / N, abs=1e-4)
    vertical = planted(lambda i: {5: 1.0} if i >= 5 else {i: 1.0})
    assert value("vertical", vertical) == pytest.approx((N - 5) / N, abs=0.02)
    assert value("FAI", vertical) == pytest.approx(1, abs=1e-5)


PLANTED = {
    "sink": (lambda i: {0: 0.7, i: 0.3} if i else {0: 1.0}, "sink", "sink"),
    "previous": (lambda i: {max(i - 1, 0): 1.0}, "previous token", "previous token"),
    "local": (lambda i: {j: 1 / min(i + 1, 5) for j in range(max(0, i - 4), i + 1)}, "local", "local"),
    "vertical": (lambda i: {5: 1.0} if i >= 5 else {i: 1.0}, "vertical", "retrieval"),
    "slash": (lambda i: {i - 20: 1.0} if i >= 20 else {i: 1.0}, "slash", "retrieval"),
    "even": (lambda i: dict.fromkeys(range(i + 1), 1 / (i + 1)), "entropy", "broad"),
}


def test_every_planted_head_leads_its_own_metric_and_has_its_kind():
    found = {name: planted(pattern) for name, (pattern, _, _) in PLANTED.items()}
    for name, (_, metric, kind) in PLANTED.items():
        values = {other: value(metric, captured) for other, captured in found.items()}
        if metric == "local":
            values.pop("previous")  # the key before the query is as local as can be
        assert max(values, key=values.get) == name, metric
        assert values[name] > 1.3 * max(v for other, v in values.items() if other != name), metric
        metrics = {m: f(found[name]) for m, (_, f) in METRICS.items()} | {"induction": np.zeros((1, 1))}
        assert classify(metrics, N)[0, 0] == kind, name
    metrics["induction"][0, 0] = 0.9
    assert classify(metrics, N)[0, 0] == "induction"


def test_an_induction_head_is_found():
    """A model whose second layer's head 1 looks behind the earlier occurrence of its token, by an observer."""
    lm = tiny_lm(num_hidden_layers=2, max_position_embeddings=256)
    plain = induction(lm, length=30, texts=1)
    assert plain.shape == (2, 8)
    assert plain.max() < 0.3

    def steered(passing, head, keys):
        if passing.layer == 1 and head == 1:
            found = torch.full((passing.query.shape[1], len(keys)), -30.0)
            for i in range(len(found)):
                place = passing.offset + i
                found[i, max(place - 29, 0)] = 10.0
            return found
        return original(passing, head, keys)

    original = Passing.products
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Passing, "products", steered)
        found = induction(lm, length=30, texts=1)
    assert found[1, 1] > 0.95
    assert np.delete(found.reshape(-1), 9).max() < 0.3


def test_a_table_of_heads():
    lm = tiny_lm(max_position_embeddings=256)
    ids = tiny_tokens(1, 100).ids[0]
    table = heads(lm, ids, Settings(first=20))
    assert isinstance(table, HeadTable)
    assert set(table.metrics) == {*METRICS, "induction"}
    assert table.kinds.shape == (4, 8)
    order = table.sorted_by("entropy")
    values = [table.metrics["entropy"][at] for at in order]
    assert values == sorted(values, reverse=True)
    assert len(table.to_dict()["kinds"]) == 4
    assert "Kinds of heads" in table.to_text()
    with pytest.raises(ArgumentError, match="metric"):
        table.sorted_by("entropie")
    seen = capture(lm, ids, Settings(first=20))
    for name, (_, metric) in METRICS.items():
        assert np.allclose(metric(seen), table.metrics[name]), name
