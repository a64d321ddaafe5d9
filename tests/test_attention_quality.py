"""What a smaller cache costs: the table, the tasks, and a hand-made count."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tests.tiny_lm import byte_tokenizer
from workbench import cli
from workbench.attention.kv import kv_quality, registry
from workbench.attention.tasks import needles, pairs
from workbench.errors import ArgumentError, Cancelled
from workbench.jobs import Progress
from workbench.testing import tiny_lm


def test_a_full_budget_costs_nothing_and_the_full_cache_is_the_model():
    lm = tiny_lm("llama", max_position_embeddings=256)
    ids = np.random.default_rng(0).integers(3, 97, 100)
    found = kv_quality(lm, ids, ["snapkv", "knorm", "adakv"], 1.0, continuation=30)
    with torch.no_grad():
        logs = torch.log_softmax(lm.module(torch.from_numpy(ids)[None]).logits[0].double(), -1)
    wanted = np.exp(-np.mean([float(logs[t - 1, ids[t]]) for t in range(71, 100)]))
    for row in found.rows:
        assert row.perplexity == pytest.approx(wanted, rel=1e-5)
        assert row.bytes_share == 1
    assert found.tasks == 0  # without a tokenizer there is nothing to ask
    assert found.row("full cache") is found.rows[0]
    less = kv_quality(lm, ids, "all", 0.3, continuation=30)
    assert [r.method for r in less.rows] == ["full cache", *sorted(registry())]
    assert all(r.perplexity != less.rows[0].perplexity for r in less.rows[1:])
    assert all(r.bytes_share < 1 for r in less.rows[1:])
    json.dumps(less.to_dict(), allow_nan=False)
    assert "needles of 0" in less.to_text()


def test_the_answer_stands_in_the_prompt():
    tokenizer = byte_tokenizer()
    for make in (
        lambda: needles(tokenizer, range(60, 200), 3),
        lambda: pairs(tokenizer, 6, 3),
        lambda: pairs(tokenizer, 6, 3, haystack=range(60, 160)),
    ):
        for text in make():
            whole, fact = tokenizer.decode(list(text.ids)), tokenizer.decode(list(text.ids[slice(*text.place)]))
            assert text.answer in fact
            assert whole.count(text.answer) == 1
            name = fact.split("of the ")[1].split(" is")[0]
            assert whole.endswith(f"of the {name} is")
    depths = [t.place[0] for t in needles(tokenizer, range(60, 200), 3)]
    assert depths == [23, 70, 117]


def test_cancel_and_errors():
    lm, progress = tiny_lm("llama", max_position_embeddings=256), Progress()
    progress.cancel()
    ids = np.arange(3, 90)
    with pytest.raises(Cancelled):
        kv_quality(lm, ids, ["knorm"], continuation=10, progress=progress)
    for call, message in (
        (lambda: kv_quality(lm, ids, continuation=30), "87 tokens, 30 to predict"),
        (lambda: kv_quality(lm, ids, ["knom"], continuation=10), "knorm"),
        (lambda: needles(None, [1], 2), "no tokenizer"),
        (lambda: needles(byte_tokenizer(), [1], 99), "count=99"),
        (lambda: pairs(byte_tokenizer(), 3, 5), "length=3"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()


def test_the_command_on_the_default_model(capsys, tmp_path):
    path = tmp_path / "kv.json"
    asked = ["kv", "--tokens", "300", "--methods", "snapkv,streaming", "--tasks", "1", "--budget", "0.5"]
    assert cli.main([*asked, "--threads", "1", "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "full cache" in printed
    assert "snapkv" in printed
    rows = {r["method"]: r for r in json.loads(path.read_text())["rows"]}
    assert rows["full cache"]["needles"] == rows["snapkv"]["needles"] == 1
    assert rows["snapkv"]["bytes_share"] < 0.7
