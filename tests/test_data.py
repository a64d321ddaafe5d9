"""Text and windows: seeded, stable, long enough, and never the same words for calibration and evaluation."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from workbench.data import Text, Tokens, calibration, check_disjoint, evaluation, load_text
from workbench.errors import ArgumentError, DataError


def words_tokenizer(model_max_length: int = 8) -> PreTrainedTokenizerFast:
    """One token per ``w<number>``; its short maximum would make a careless caller warn."""
    vocabulary = {"[UNK]": 0, **{f"w{i}": i + 1 for i in range(5000)}}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="[UNK]", bos_token="[UNK]", model_max_length=model_max_length
    )


@pytest.fixture(scope="module")
def lm() -> Any:
    return SimpleNamespace(tokenizer=words_tokenizer(), module=None)


def text_of(count: int, tmp: Path, name: str = "text.txt") -> Text:
    path = tmp / name
    path.write_text(" ".join(f"w{i}" for i in range(count)), encoding="utf-8")
    return load_text(path)


def test_builtin_text_is_long_english_and_named() -> None:
    text = load_text()
    assert len(text.content) > 300_000
    assert text.span == (0, len(text.content))
    assert "assert" in text.content
    assert text.sha256 == load_text(None).sha256
    assert load_text(text) is text


@pytest.mark.parametrize("share", [0.1, 0.25, 0.9])
def test_split_is_exact_and_at_a_paragraph_end(share: float) -> None:
    text = load_text()
    first, second = text.split(share)
    assert first.content + second.content == text.content
    assert first.content.endswith("\n\n")
    assert (first.span[0], first.span[1], second.span[1]) == (0, second.span[0], len(text.content))
    assert abs(len(second.content) / len(text.content) - share) < 0.02
    inner = second.split(0.5)[1]
    assert text.content[slice(*inner.span)] == inner.content


def test_split_refuses_what_cannot_be_split() -> None:
    with pytest.raises(ArgumentError, match=r"evaluation=1\.0: a share between 0 and 1"):
        load_text().split(1.0)
    with pytest.raises(DataError, match="1 characters are too few to split"):
        Text("a", "tiny", "0", (0, 1)).split()


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfGr\xc3\xbc\xc3\x9fe\r\n")
    assert load_text(path).content == "Grüße\r\n"
    assert load_text(str(path)).name == "a.txt"
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "latin.txt").write_bytes("Grüße".encode("latin-1"))
    (tmp_path / "zeros.txt").write_bytes(b"a\0b")
    for name, message in {
        "missing.txt": "no such text file",
        "empty.txt": "the text is empty",
        "latin.txt": r"not UTF-8 text \(byte 2\)",
        "zeros.txt": "a binary file",
        ".": "cannot be read",
    }.items():
        with pytest.raises(DataError, match=message):
            load_text(tmp_path / name)


def fake_datasets(monkeypatch: pytest.MonkeyPatch, rows: Any) -> list[Any]:
    calls: list[Any] = []

    class Rows(dict[str, Any]):
        features = {k: SimpleNamespace(dtype=d) for k, (d, _) in rows.items()} if isinstance(rows, dict) else {}

    def load_dataset(name: str, config: str | None, split: str) -> Any:
        calls.append((name, config, split))
        if isinstance(rows, Exception):
            raise rows
        return Rows({k: v for k, (_, v) in rows.items()})

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return calls


def test_datasets_names(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_datasets(monkeypatch, {"id": ("int64", [1, 2]), "text": ("string", ["one", "", "two"])})
    assert load_text("datasets:org/name").content == "one\n\ntwo"
    for rest in ("org/name:en", "org/name:en:test[:10%]", "org/name:validation"):
        load_text(f"datasets:{rest}")
    assert calls == [
        ("org/name", None, "train"),
        ("org/name", "en", "train"),
        ("org/name", "en", "test[:10%]"),
        ("org/name", None, "validation"),
    ]


def test_datasets_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_datasets(monkeypatch, {"id": ("int64", [1])})
    with pytest.raises(DataError, match=r"no column of text \(columns: id\)"):
        load_text("datasets:org/name")
    fake_datasets(monkeypatch, ConnectionError("offline\nlong story"))
    with pytest.raises(DataError, match=r"cannot be loaded \(offline\): check its name and the network"):
        load_text("datasets:org/name")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install datasets"):
        load_text("datasets:org/name")


def test_calibration_is_seeded_and_does_not_overlap_itself(lm: Any, tmp_path: Path) -> None:
    text = text_of(1000, tmp_path)
    tokens = calibration(lm, text, samples=15, seqlen=64, seed=3)
    assert tokens.ids.shape == (15, 64)
    assert (np.diff(tokens.ids, axis=1) == 1).all()
    assert len(np.unique(tokens.ids)) == tokens.ids.size
    again, other = (calibration(lm, text, samples=15, seqlen=64, seed=s) for s in (3, 4))
    assert tokens.hash == again.hash != other.hash
    assert "no overlap, seed 3" in tokens.selection


def test_calibration_on_a_short_text_overlaps_and_says_so(lm: Any, tmp_path: Path) -> None:
    text = text_of(100, tmp_path)
    tokens = calibration(lm, text, samples=10, seqlen=64)
    assert len({int(row[0]) for row in tokens.ids}) == 10
    assert "some overlap" in tokens.selection
    with pytest.raises(DataError, match="100 tokens hold only 37 different windows of 64, 38 are wanted"):
        calibration(lm, text, samples=38, seqlen=64)
    with pytest.raises(DataError, match="100 tokens, but one sequence needs 101"):
        calibration(lm, text, samples=1, seqlen=101)


def test_evaluation_is_consecutive_from_the_start(lm: Any, tmp_path: Path) -> None:
    text = text_of(1000, tmp_path)
    tokens = evaluation(lm, text, seqlen=64)
    np.testing.assert_array_equal(tokens.ids.reshape(-1), np.arange(1, 961))
    assert tokens.selection == "all 15 consecutive windows, no overlap"
    some = evaluation(lm, text, seqlen=64, windows=4)
    assert [int(row[0]) for row in some.ids] == [1, 193, 449, 705]
    assert "4 of 15 evenly spread" in some.selection
    assert evaluation(lm, text, seqlen=64, windows=99).hash == tokens.hash
    with pytest.raises(DataError, match="1000 tokens, but one sequence needs 1001"):
        evaluation(lm, text, seqlen=1001)


def test_bad_sizes_are_named(lm: Any) -> None:
    with pytest.raises(ArgumentError, match="samples=0: a whole number of at least 1"):
        calibration(lm, samples=0)
    with pytest.raises(ArgumentError, match=r"seqlen=2\.5"):
        evaluation(lm, seqlen=2.5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="a window needs 2 tokens"):
        evaluation(lm, seqlen=1)
    small = SimpleNamespace(
        tokenizer=lm.tokenizer, module=SimpleNamespace(config=SimpleNamespace(max_position_embeddings=32))
    )
    with pytest.raises(ArgumentError, match="seqlen=64: this model takes at most 32 positions"):
        evaluation(small, seqlen=64)
    with pytest.raises(DataError, match="no tokenizer"):
        evaluation(SimpleNamespace(tokenizer=None))


def test_text_is_tokenised_once(lm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, calls = text_of(900, tmp_path), []
    original = PreTrainedTokenizerFast.__call__
    monkeypatch.setattr(PreTrainedTokenizerFast, "__call__", lambda *a, **k: (calls.append(1), original(*a, **k))[1])
    for seed in range(3):
        calibration(lm, text, samples=2, seqlen=64, seed=seed)
    evaluation(lm, text, seqlen=64)
    assert len(calls) == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.integers(1, 12), st.integers(0, 2**32 - 1), st.floats(0.1, 0.9))
def test_calibration_and_evaluation_never_overlap(seqlen: int, samples: int, seed: int, share: float) -> None:
    """Every token of the source is its own number, so a shared number would be a shared word."""
    content = " ".join(f"w{i}" for i in range(3000))
    first, second = Text(content, "numbers", "hash", (0, len(content))).split(share)
    lm = SimpleNamespace(tokenizer=words_tokenizer(), module=None)
    a, b = (
        calibration(lm, first, samples=samples, seqlen=seqlen, seed=seed),
        evaluation(lm, second, seqlen=seqlen),
    )
    assert not set(a.ids.flat) & set(b.ids.flat)
    check_disjoint(a, b)
    with pytest.raises(DataError, match=r"share \d+ characters of 'numbers'"):
        check_disjoint(a, evaluation(lm, first, seqlen=seqlen).provenance)


def test_default_texts_are_disjoint(lm: Any) -> None:
    a, b = calibration(lm, samples=2, seqlen=16), evaluation(lm, windows=2, seqlen=16)
    check_disjoint(a, b)
    check_disjoint(a.provenance, b.provenance)
    assert a.sha256 == b.sha256
    with pytest.raises(DataError, match="would flatter the method"):
        check_disjoint(a.provenance, calibration(lm, samples=2, seqlen=16, seed=1))


def test_given_ids() -> None:
    tokens = Tokens.of([[1, 2, 3], [4, 5, 6]])
    assert tokens.ids.dtype == np.int64
    assert tokens.hash == Tokens.of(np.array([[1, 2, 3], [4, 5, 6]], np.int32)).hash
    assert tokens.hash != Tokens.of([[1, 2], [3, 4], [5, 6]]).hash
    assert "2 x 3" in repr(tokens)
    with pytest.raises(ArgumentError, match=r"shape \(3,\)"):
        Tokens.of([1, 2, 3])
