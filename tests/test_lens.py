"""The study of attention and the lens without a browser: bytes, messages, static forms, the page, the command."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import zlib
from pathlib import Path
from typing import Any

import lens_studies as made
import numpy as np
import pytest
import torch
from tiny_lm import tiny_lm
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM
from workbench_widgets import Lens, view

import workbench
from workbench import cli
from workbench.attention import AttentionStudy, study
from workbench.attention.kv.history import kv_history
from workbench.attention.studying import floor_of, pooled
from workbench.errors import ArgumentError, ModelError

STUDY = made.study()
TEXT = "the cat sat on the mat. " * 8
TYPES = {"u1": np.uint8, "u2": np.uint16, "i4": np.int32, "f4": np.float32}


@pytest.fixture(scope="module")
def real() -> AttentionStudy:
    """A tiny model's, with maps, two patterns and two caches."""
    return study(tiny_lm(), TEXT, patterns=["a-shape", "block-top"], kv=["snapkv", "streaming"], states=True)


def arrays(lens: Lens) -> dict[str, np.ndarray]:
    """What the front end unpacks."""
    data, header = zlib.decompress(lens.data), lens.header
    found = {}
    for name, (kind, at, size) in header["arrays"].items():
        found[name] = np.frombuffer(data, np.dtype(TYPES[kind]).newbyteorder("<"), size, at)
    return found


def shares(codes: np.ndarray, top: int, floor: float) -> np.ndarray:
    """Shares of codes, by the formula; NaN where there is no cell."""
    found = floor ** (1 - (codes.astype(np.float64) - 1) / (top - 1))
    return np.where(codes == 0, np.nan, np.where(codes == 1, 0.0, found))


def gemma2() -> Any:
    """Layers with windows, scores capped."""
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=256, sliding_window=8, pad_token_id=0,
    )  # fmt: skip
    return workbench.wrap(Gemma2ForCausalLM(config).eval())


class Said:
    """Catches what a lens sends."""

    def __init__(self, lens: Lens, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lens, self.messages = lens, []
        monkeypatch.setattr(lens, "send", lambda content, buffers=(): self.messages.append((content, list(buffers))))

    def ask(self, **content: Any) -> list[Any]:
        self.messages.clear()
        self.lens._heard(None, content, [])
        end = time.monotonic() + 20
        while self.lens.busy and time.monotonic() < end:
            time.sleep(0.001)
        return list(self.messages)


def test_the_header_says_what_was_studied() -> None:
    header = Lens(STUDY).header
    assert (header["layers"], header["heads"], header["tokens"], header["cells"]) == (3, 4, 700, 117)
    assert header["cell"] == 6, "cells of 3 tokens, two to one"
    assert header["sizes"] == [3, 2, 1]
    assert [p["name"] for p in header["points"]] == ["near"] * 3 + ["far"] * 3
    assert header["points"][0]["ratio"] is None, "what was not measured is no number"
    assert header["kv"]["methods"] == ["window", "second"]
    json.dumps(header, allow_nan=False)


def test_pictures_are_means_of_whole_cells_within_a_code() -> None:
    lens = Lens(STUDY)
    floor, side = lens.header["floor"], lens.header["cells"]
    codes = arrays(lens)["picture"].reshape(3, 4, side, side)
    rows, columns = np.tril_indices(side)
    for layer, head in ((0, 0), (1, 1), (2, 2), (1, 3)):
        slow = made.cells(made.planted(layer, head), 6)
        found = shares(codes[layer, head], 255, floor)
        assert np.isnan(found[np.triu_indices(side, 1)]).all()
        step = floor ** (-0.51 / 254)
        np.testing.assert_array_less(found[rows, columns], slow[rows, columns] * step + floor)
        np.testing.assert_array_less(slow[rows, columns] / step - floor * step, found[rows, columns] + 1e-12)


@pytest.mark.parametrize(("count", "block", "side"), [(117, 6, 20), (64, 1, 64), (7, 3, 2)])
def test_pooling_keeps_the_mass_of_cells_that_the_end_cuts(count: int, block: int, side: int) -> None:
    length = count * block - block // 2
    p = np.random.default_rng(0).random((length, length), np.float32)
    small = made.cells(np.tril(p), block)
    found, cell = pooled(small, length, block, side)
    assert found.shape[0] <= side
    np.testing.assert_allclose(found, made.cells(np.tril(p), cell), rtol=1e-4)


def test_metrics_kinds_and_columns_arrive(real: AttentionStudy) -> None:
    for one in (STUDY, real):
        lens, found = Lens(one), arrays(Lens(one))
        stacked = np.stack([v.ravel() for v in one.table.metrics.values()])
        np.testing.assert_array_equal(found["metrics"].reshape(stacked.shape), stacked.astype(np.float32))
        names = [kind for kind, _, _ in lens.header["kinds"]]
        assert [names[k] for k in found["kinds"]] == one.table.kinds.ravel().tolist()
        column = shares(found["column"], 255, lens.header["floor"]).reshape(one.table.captured.column.shape)
        np.testing.assert_allclose(column, one.table.captured.column, rtol=0.05, atol=1.1 * lens.header["floor"])


def test_tiles_are_exact_to_a_thousandth(monkeypatch: pytest.MonkeyPatch) -> None:
    lens = Lens(STUDY)
    said, floor = Said(lens, monkeypatch), lens.header["floor"]
    p = made.planted(1, 3)
    for size, tiles in ((3, [[0, 0]]), (2, [[1, 0], [1, 1]]), (1, [[2, 0], [2, 2]])):
        answers = said.ask(command="tiles", seq=size, layer=1, head=3, size=size, tiles=tiles)
        assert [[a["tile"]["row"], a["tile"]["column"]] for a, _ in answers] == tiles
        slow = made.cells(p, size)
        for (row, column), (_, buffers) in zip(tiles, answers, strict=True):
            found = shares(np.frombuffer(buffers[0], "<u2").reshape(256, 256), 65535, floor)
            here = slow[row * 256 :, column * 256 :][:256, :256]
            part = found[: here.shape[0], : here.shape[1]]
            seen = np.tril(np.ones(here.shape, bool), (row - column) * 256)
            np.testing.assert_allclose(part[seen], here[seen], rtol=1e-3, atol=floor)
            assert np.isnan(part[~seen]).all()


def test_a_row_is_exact_and_blocks_are_those_of_the_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    lens = Lens(STUDY)
    said = Said(lens, monkeypatch)
    [(told, buffers)] = said.ask(command="row", seq=1, layer=0, head=2, query=500)
    assert told["row"]["query"] == 500
    np.testing.assert_array_equal(np.frombuffer(buffers[0], "<f4"), made.planted(0, 2)[500])
    [(told, buffers)] = said.ask(command="blocks", seq=1, layer=0, head=2, point=4)
    bits = np.unpackbits(np.frombuffer(buffers[0], np.uint8))
    kept = STUDY.curves.kept(STUDY.curves.rows[4], 0, 2)
    assert bits[: 11 * 12 // 2].tolist() == kept[np.tri(11, dtype=bool)].astype(int).tolist()


def test_of_two_requests_the_newer_one_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    lens = Lens(made.study(more=False))
    maps, said = lens.study.table.captured.maps, Said(lens, monkeypatch)
    original = maps.tile

    def slow(*place: int) -> np.ndarray:
        if len(maps.asked) == 1:
            lens._heard(None, {**asked, "seq": 2, "tiles": [[1, 0]]}, [])
        return original(*place)

    maps.tile = slow
    asked = {"command": "tiles", "seq": 1, "layer": 0, "head": 0, "size": 1, "tiles": [[2, 2], [2, 1], [2, 0], [1, 1]]}
    answers = said.ask(**asked)
    assert [(a["tile"]["seq"], a["tile"]["row"]) for a, _ in answers] == [(1, 2), (1, 2), (2, 1)]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"command": "tiles", "layer": 9, "head": 0, "size": 1, "tiles": [[0, 0]]}, "no such head"),
        ({"command": "row", "layer": 0, "head": 0, "query": 700}, "query=700"),
        ({"command": "blocks", "layer": 0, "head": 0, "point": 6}, "no such point"),
    ],
)
def test_what_cannot_be_answered_is_said(message: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lens = Lens(STUDY)
    assert Said(lens, monkeypatch).ask(seq=1, **message) == []
    assert words in lens.error["text"]


def test_without_states_exact_maps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lens = Lens(made.study(maps=False, more=False))
    assert lens.header["sizes"] == []
    assert lens.header["points"] == []
    assert lens.header["kv"] is None
    Said(lens, monkeypatch).ask(command="row", seq=1, layer=0, head=0, query=3)
    assert "states=True" in lens.error["text"]


def test_a_tiny_model_is_studied_from_its_text(real: AttentionStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "".join(real.pieces) == TEXT
    assert {r.name for r in real.curves.rows} == {"a-shape", "block-top"}
    assert real.history.methods == ("snapkv", "streaming")
    lens = Lens(real)
    [(_, buffers)] = Said(lens, monkeypatch).ask(command="row", seq=1, layer=2, head=1, query=100)
    row = np.frombuffer(buffers[0], "<f4")
    assert row[:101].sum() == pytest.approx(1, abs=1e-5)
    picture = shares(arrays(lens)["picture"], 255, lens.header["floor"]).reshape(3, 4, lens.header["cells"], -1)
    cell = lens.header["cell"]
    at = 100 // cell
    rows = real.table.captured.maps.window(2, 1, slice(at * cell, (at + 1) * cell), slice(0, (at + 1) * cell))
    slow = rows.reshape(cell, at + 1, cell).mean((0, 2))
    np.testing.assert_allclose(picture[2, 1, at, : at + 1], slow, rtol=0.03)


def test_drop_times_and_bytes_arrive() -> None:
    found, header = arrays(Lens(STUDY)), Lens(STUDY).header["kv"]
    dropped = found["dropped"].reshape(2, 3, 2, 700).astype(int) - 1
    np.testing.assert_array_equal(dropped[1], STUDY.history.dropped["second"])
    sizes = found["nbytes"].reshape(3, header["steps"] + 1)
    np.testing.assert_array_equal(sizes[0], STUDY.history.dense_nbytes)
    np.testing.assert_array_equal(sizes[2], STUDY.history.nbytes["second"])


def test_text_and_html_have_what_counts(real: AttentionStudy) -> None:
    for one in (STUDY, real):
        data = one._repr_mimebundle_()
        for part in ("Every head", "What later tokens look at", "Metrics", "Sparse patterns", "What smaller KV caches"):
            assert part in data["text/plain"], part
            assert part in data["text/html"], part
        assert data["text/html"].count("data:image/png;base64,") == 2
        assert "<script" not in data["text/html"]
    assert "&lt;b&gt;" in STUDY.to_html(), "tokens are text, never markup"
    assert "1.3" in STUDY.to_text().split("I induction")[1][:40]
    assert json.loads(json.dumps(real.to_dict()))["pieces"] == list(TEXT)
    assert repr(real) == "AttentionStudy(memory: 3 x 4 heads over 192 tokens, 2 sparse patterns, 2 KV caches)"


def test_a_page_of_a_large_model_stays_small() -> None:
    """Pictures of 270 heads over 4,096 tokens are what a page is made of; noise is the worst that they can be."""
    from workbench_widgets import _lens_state as state

    noise = np.exp(np.random.default_rng(0).normal(-8, 1.5, (30, 9, 128, 128)))
    codes = state.triangle(state.codes(noise, floor_of(4096), 255))
    assert len(zlib.compress(codes.tobytes(), 6)) < 3 << 20


def test_the_page_is_frozen_with_every_block() -> None:
    lens = Lens(STUDY)
    kept = zlib.decompress(_bytes(lens.frozen()["kept"]))
    size = STUDY.curves.rows[0].packed.shape[-1]
    assert len(kept) == 6 * 12 * size
    assert kept[4 * 12 * size :][: 12 * size] == np.ascontiguousarray(STUDY.curves.rows[4].packed).tobytes()
    assert lens.frozen()["live"] is False
    page = lens.to_html()
    assert "https://" not in page.replace("http://www.w3.org", "")


def _bytes(value: dict[str, str]) -> bytes:
    import base64

    return base64.b64decode(value["__b64__"])


def test_wrong_arguments_are_told() -> None:
    lm = tiny_lm()
    with pytest.raises(ArgumentError, match="without a text"):
        workbench.lens(lm)
    with pytest.raises(ArgumentError, match="pass it alone"):
        workbench.lens(STUDY, "text")
    with pytest.raises(ArgumentError, match="panel='maps': one of heads"):
        workbench.lens(lm, "text", panel="maps")
    with pytest.raises(ArgumentError, match="a layer of 3 and a head of 4"):
        workbench.lens(STUDY, head=(3, 0))
    with pytest.raises(ArgumentError, match="patterns=3"):
        study(lm, TEXT, patterns=3)
    with pytest.raises(ArgumentError, match="no text and no token ids"):
        study(lm, object())
    with pytest.raises(ArgumentError, match="one text's"):
        AttentionStudy(STUDY.table, ("a",))


def test_a_model_with_windows_is_studied_without_patterns() -> None:
    lm = gemma2()
    assert study(lm, range(40), kv=()).curves is None
    with pytest.raises(ModelError, match="see all keys"):
        study(lm, range(40), patterns="a-shape", kv=())


def test_a_short_text_is_enough() -> None:
    few = {"patterns": ["a-shape"], "kv": ["knorm"]}
    assert Lens(study(tiny_lm(), [1, 2], **few)).header["cells"] == 2
    assert Lens(study(tiny_lm(), [1, 2, 3] * 9, states=True, **few)).header["sizes"] == [1]


def test_texts_longer_than_a_compiled_draft_takes_are_followed() -> None:
    """A compiled copy has room for 2,048 tokens; SpecKV's draft is another one beyond."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=4096,
    )  # fmt: skip
    lm = workbench.wrap(LlamaForCausalLM(config).eval())
    found = kv_history(lm, [n * 7 % 64 for n in range(2100)], ["speckv"], steps=2)
    assert (found.dropped["speckv"] < 0)[..., :2098].mean() == pytest.approx(0.25, abs=0.01)


def test_view_opens_the_lens() -> None:
    assert isinstance(view(STUDY), Lens)


def test_lens_reads_a_text_by_itself() -> None:
    lens = workbench.lens(tiny_lm(), [1, 2, 3, 4] * 10, patterns=(), kv=(), panel="map", head=(2, 1))
    assert lens.begin == {"panel": "map", "layer": 2, "head": 1}
    assert lens.header["sizes"] == [1], "states are kept"


def test_the_modules_make_one_module(tmp_path: Path) -> None:
    assert Lens._esm.count("export ") == 1
    assert "import {" not in Lens._esm
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    path = tmp_path / "lens.mjs"
    path.write_text(Lens._esm, encoding="utf-8")
    ran = subprocess.run([node, "--check", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr


def test_the_command_writes_page_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workbench, "load", lambda _=None: tiny_lm(), raising=False)
    (tmp_path / "text.txt").write_text(TEXT)
    where = [
        "--text",
        str(tmp_path / "text.txt"),
        "--out",
        str(tmp_path / "a.html"),
        "--json",
        str(tmp_path / "a.json"),
    ]
    command = ["attention", "--model", "tiny", "--tokens", "120", "--patterns", "a-shape", "--kv", "knorm", *where]
    assert cli.main(command) == 0
    assert "written: " in capsys.readouterr().out
    page = (tmp_path / "a.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.endswith("</html>\n")
    figures = json.loads((tmp_path / "a.json").read_text())
    assert (figures["command"], figures["heads"]["tokens"]) == ("attention", 120)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "a.json", "text.txt"], (
        "no half-written file is left"
    )


def test_the_command_refuses_before_it_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["attention", "--out", str(tmp_path / "no" / "a.html")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert cli.main(["attention", "--out", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err
