"""Which rows stay: against the cache itself after every step."""

from __future__ import annotations

import json

import numpy as np
import pytest

from workbench.attention.kv import CompressedTarget, registry, resolve
from workbench.attention.kv.history import kv_history
from workbench.errors import ArgumentError, Cancelled
from workbench.jobs import Progress
from workbench.testing import tiny_lm

IDS = np.random.default_rng(5).integers(3, 97, 44)
PROMPT, STEPS = 34, 10


@pytest.fixture(scope="module")
def history():
    methods = [resolve(name, {} if name == "expected" else {"recent": 3}) for name in sorted(registry())]
    return methods, kv_history(tiny_lm("llama"), IDS, methods, 0.4, STEPS)


def test_every_row_is_followed_as_the_cache_has_it(history):
    methods, found = history
    assert (found.prompt, found.steps, found.methods) == (PROMPT, STEPS, tuple(sorted(registry())))
    for method in methods:
        target = CompressedTarget(tiny_lm("llama"), method, 0.4)
        target.forward(IDS[:PROMPT])
        target.compress()
        for step in range(STEPS + 1):
            if step:
                target.forward([int(IDS[PROMPT + step - 1])])
            kept = found.kept(method.name, step)
            assert kept.shape == (4, 4, PROMPT + step)
            assert [[np.flatnonzero(h).tolist() for h in layer] for layer in kept] == [
                [k.tolist() for k in layer] for layer in target.kept
            ], (method.name, step)
            assert found.nbytes[method.name][step] == target.nbytes
            assert found.dense_nbytes[step] == target.dense_nbytes
        assert found.dropped[method.name].dtype == np.int32


def test_what_history_says_of_each_kind(history):
    _, found = history
    assert (found.dropped["mustafar"] == -1).all()  # rows stay, bytes go
    assert found.nbytes["mustafar"][-1] < found.dense_nbytes[-1]
    for name in ("snapkv", "speckv", "specpc", "knorm"):  # drop once
        assert set(np.unique(found.dropped[name])) == {-1, PROMPT}
    assert {PROMPT, PROMPT + 1, PROMPT + STEPS} <= set(np.unique(found.dropped["streaming"]))
    window = found.kept("streaming", STEPS)[0, 0]
    assert window.tolist() == [j < 4 or j >= PROMPT + STEPS - 10 for j in range(PROMPT + STEPS)]
    assert found.parts("streaming").tolist()[1:7] == [0] * 6
    assert found.parts("mustafar", 0).tolist() == [1] * 10
    text, page = found.to_text(), found.to_html()
    assert "Share of rows still there" in text
    assert "<svg" in page
    assert "streaming" in page
    json.dumps(found.to_dict(), allow_nan=False)
    assert repr(found).startswith("KVHistory(")


def test_errors_and_cancel():
    lm, progress = tiny_lm("llama"), Progress()
    for call, message in (
        (lambda: kv_history(lm, IDS, "knorm", steps=44), "steps=44: not negative, and less than the 44 tokens"),
        (lambda: kv_history(lm, IDS, ["knorm", "knorm"], steps=2), "each only once"),
        (lambda: kv_history(lm, IDS, "knom", steps=2), "knorm"),
        (lambda: kv_history(lm, IDS, "knorm", steps=2).kept("knorm", 3), "step=3"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()
    assert kv_history(lm, IDS, "knorm", steps=0).nbytes["knorm"].shape == (1,)
    progress.cancel()
    with pytest.raises(Cancelled):
        kv_history(lm, IDS, "knorm", steps=2, progress=progress)
