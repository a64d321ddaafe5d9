"""Tiles, windows and rows are those of the whole map, whatever its length; nothing is left on disk."""

from __future__ import annotations

import json
import os
import tempfile

import numpy as np
import pytest
import torch
from test_attention_capture import maps as eager

from workbench import cli
from workbench.attention import Settings, capture, heads
from workbench.attention.bench import bench_attention
from workbench.attention.states import States
from workbench.attention.watching import Passing
from workbench.errors import ArgumentError, Cancelled, ModelError, ResourceError
from workbench.jobs import Progress
from workbench.measure import peak_memory
from workbench.testing import tiny_lm, tiny_tokens

LENGTH = 61
SETTINGS = Settings(cells=10)  # cells of 7 tokens, and finer tiles of 4, 2 and 1
ARRAYS = ("entropy", "sink", "local", "waad", "column", "fai", "slash", "needed", "picture")


def text(length=LENGTH):
    return tiny_tokens(1, length).ids[0]


def model(family="llama", **changes):
    return tiny_lm(family, max_position_embeddings=128, **changes)


def mean_cells(whole, size, row, column, cells=10):
    """A tile from its definition."""
    out = np.zeros((cells, cells))
    for a, b in np.ndindex(cells, cells):
        i, j = (row * cells + a) * size, (column * cells + b) * size
        part = whole[i : i + size, j : j + size]
        out[a, b] = part.mean() if part.size else 0
    return out


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gemma3_text", "phi3"])
def test_tiles_windows_and_rows_are_those_of_the_whole_map(family):
    """Grouped queries in all; windows of 8 keys in half the layers of the Gemmas and all of mistral; gemma2 caps."""
    lm = model(family, sliding_window=8) if family == "mistral" else model(family)
    whole, found = eager(lm, text()), capture(lm, text(), SETTINGS, states=True, chunk=16)
    with found.maps as maps:
        assert (maps.layers, maps.heads, maps.length, maps.cells) == (4, 8, LENGTH, 10)
        assert maps.sizes == (7, 4, 2, 1)
        for layer, head in ((0, 0), (1, 3), (2, 7), (3, 4)):
            wanted = whole[layer, head]
            for size in maps.sizes:
                tiles = -(-LENGTH // (10 * size))
                for row, column in np.ndindex(tiles, tiles):
                    tile = maps.tile(layer, head, size, row, column)
                    assert tile.dtype == np.float32
                    np.testing.assert_allclose(tile, mean_cells(wanted, size, row, column), atol=3e-6)
            everything = maps.window(layer, head, slice(None), slice(None))
            np.testing.assert_allclose(everything, wanted, atol=3e-6)
            np.testing.assert_allclose(
                maps.window(layer, head, slice(20, 40), slice(5, -3)), wanted[20:40, 5:-3], atol=3e-6
            )
            np.testing.assert_allclose(maps.row(layer, head, 33), wanted[33], atol=3e-6)
    if family in ("mistral", "gemma2"):
        assert (whole[0, 0][30, :22] == 0).all()  # the window is there at all


def test_a_strip_that_ends_within_a_tile_and_a_text_of_one_cell():
    """More rows than one strip of scores holds, and a text so short that the picture is exact."""
    lm = tiny_lm(max_position_embeddings=1024, num_hidden_layers=1)
    ids = text(700)
    found = capture(lm, ids, Settings(cells=100), states=True)
    with found.maps as maps:
        assert maps.sizes == (7, 4, 2, 1)
        whole = maps.window(0, 3, slice(None), slice(None))
        np.testing.assert_allclose(whole.sum(1), 1, atol=1e-5)
        assert (np.triu(whole, 1) == 0).all()
        for size, row, column in ((4, 0, 0), (4, 1, 0), (4, 1, 1), (2, 3, 2), (1, 6, 6), (4, 0, 1)):
            np.testing.assert_allclose(
                maps.tile(0, 3, size, row, column), mean_cells(whole, size, row, column, 100), atol=2e-6
            )
        np.testing.assert_allclose(maps.tile(0, 3, 7, 0, 0), mean_cells(whole, 7, 0, 0, 100), atol=2e-6)
    short = capture(lm, ids[:9], Settings(cells=10), states=True)
    with short.maps as maps:
        assert maps.sizes == (1,)
        np.testing.assert_allclose(maps.tile(0, 0, 1, 0, 0)[:9, :9], maps.window(0, 0, slice(9), slice(9)), atol=2e-6)


def test_chunks_and_threads_change_nothing(monkeypatch):
    lm, ids = model("gemma2"), text()
    one = capture(lm, ids, SETTINGS, states=True, chunk=LENGTH)
    monkeypatch.setattr("workbench.attention.capturing.SCORES", 16 * 64)  # strips of 16 rows
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)  # heads three at a time
    other = capture(lm, ids, SETTINGS, states=True, chunk=5)
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=2e-5, rtol=1e-4, err_msg=name)
    with one.maps as a, other.maps as b:
        for at in ((0, 0, 2, 1, 0), (3, 7, 1, 4, 3)):
            np.testing.assert_allclose(a.tile(*at), b.tile(*at), atol=2e-6)
    assert capture(lm, ids, SETTINGS).maps is None


def test_the_file_has_no_name_and_goes_on_close_and_on_error(monkeypatch, tmp_path):
    made = []
    original = tempfile.mkstemp

    def counted(**given):
        made.append(original(**given | {"dir": tmp_path}))
        return made[-1]

    def closed():
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(made[-1][0])
        return True

    monkeypatch.setattr(tempfile, "mkstemp", counted)
    found = capture(model(), text(), SETTINGS, states=True)
    assert not list(tmp_path.iterdir())
    assert os.fstat(made[0][0]).st_size == found.maps.nbytes == 4 * LENGTH * 4 * 4 * (8 + 4)
    found.maps.close()
    found.maps.close()
    assert closed()
    assert found.maps.tile(0, 0, 7, 0, 0).any()
    with pytest.raises(ArgumentError, match="the maps are closed"):
        found.maps.row(0, 0, 3)
    progress = Progress(lambda step: progress.cancel() if step.done == 3 else None)
    with pytest.raises(Cancelled):
        capture(model(), text(), SETTINGS, states=True, progress=progress)
    assert len(made) == 2
    assert closed()
    found = capture(model(), text(), SETTINGS, states=True)
    del found
    assert closed()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    with pytest.raises(ResourceError, match="cannot write to"):
        States(5, 1, tmp_path / "none")
    states, x = States(10**15, 1, tmp_path), torch.zeros(1, 1, 4)
    with pytest.raises(ResourceError, match="the queries and keys of the text needs"):
        states.add(Passing(0, x, x, x, 1.0))
    states.close()


def test_no_square_of_the_text_is_ever_held():
    """6000 tokens: a head's map would take 144 MB; statistics, states and a tile stay far below that."""
    lm = tiny_lm(max_position_embeddings=8192, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1)
    ids = text(6000)
    capture(lm, ids[:200], states=True).maps.close()
    with peak_memory() as memory, capture(lm, ids, states=True).maps as maps:
        maps.tile(0, 1, 16, 0, 0)
        maps.tile(0, 1, 4, 5, 2)
    assert memory.over_start_bytes < 72e6


def test_a_text_longer_than_the_model_was_trained_on():
    lm = tiny_lm(max_position_embeddings=40)
    with pytest.raises(ArgumentError, match=r"ids has 61 tokens: 2 to 40; Settings\(beyond=True\)"):
        capture(lm, text(), SETTINGS)
    found = capture(lm, text(), Settings(cells=10, beyond=True), chunk=16)
    same = capture(tiny_lm(max_position_embeddings=128), text(), SETTINGS)
    np.testing.assert_allclose(found.entropy, same.entropy, atol=1e-5)
    for family in ("gpt2", "opt"):
        changes = {"max_position_embeddings": 40} | ({"n_positions": 40} if family == "gpt2" else {})
        with pytest.raises(ModelError, match="has learned 40 positions"):
            capture(tiny_lm(family, **changes), text(), Settings(beyond=True))
    changing = tiny_lm(max_position_embeddings=40, rope_scaling={"rope_type": "dynamic", "factor": 2.0})
    with pytest.raises(ModelError, match="depend on the length"):
        capture(changing, text(), Settings(beyond=True))


def test_what_cannot_be_asked_of_maps():
    with heads(model(), text(), SETTINGS, states=True).captured.maps as maps:
        for call, message in (
            (lambda: maps.tile(0, 0, 3, 0, 0), "size=3: one of 7, 4, 2, 1"),
            (lambda: maps.tile(0, 0, 4, 2, 0), "row=2, column=0: 0 to 1 at size 4"),
            (lambda: maps.tile(4, 0, 4, 0, 0), "layer=4, head=0: up to 3 and 7"),
            (lambda: maps.window(0, 0, slice(0, 9, 2), slice(None)), "without a step"),
            (lambda: maps.row(0, 0, LENGTH), f"query={LENGTH}: 0 to {LENGTH - 1}"),
        ):
            with pytest.raises(ArgumentError, match=message):
                call()
        assert maps.window(0, 0, slice(5, 5), slice(None)).shape == (0, LENGTH)


def test_the_benchmark(monkeypatch, capsys, tmp_path):
    lm = model()
    found = bench_attention(lm, text(), lengths=(20, 40), rounds=2)
    assert [r.tokens for r in found.reading] == [20, 40]
    assert all(r.ratio > 0 and r.interval[0] <= r.ratio <= r.interval[1] for r in found.reading)
    assert [t.size for t in found.tiles] == [1]
    assert found.analysis.tokens == LENGTH
    assert found.analysis.file_bytes == 4 * LENGTH * 4 * 4 * (8 + 4)
    assert 0 < found.packed_share <= 1
    with pytest.raises(ArgumentError, match="up to the text's 61"):
        bench_attention(lm, text(), lengths=(62,))
    monkeypatch.setattr("workbench.commands.bench_attention.load_model", lambda *_: lm)
    monkeypatch.setattr("workbench.commands._texts.tokens_of", lambda *_: text())
    out = tmp_path / "out.json"
    assert cli.main(["bench-attention", "--quick", "--rounds", "1", "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "tokens a cell" in printed
    assert "of the whole one" in printed
    content = json.loads(out.read_text())
    assert content["command"] == "bench-attention"
    assert content["reading"][0]["tokens"] == LENGTH
