"""Calibration and evaluation text: offline by default, seeded, and never the same words twice.

    source --load_text--> Text --calibration / evaluation--> Tokens [samples, seqlen]

The offline default is the reference text that ships inside Python (``pydoc_data``): nothing is downloaded,
nothing is committed, and every figure names the text by its SHA-256. A text is tokenised once as one stream,
without special tokens; windows are slices of that stream. Pruning calibrates on one part and is measured on
another: `check_disjoint` refuses anything else.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from workbench._text import Text, load_text
from workbench.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Text", "Tokens", "calibration", "check_disjoint", "check_fits", "evaluation", "load_text"]

_CACHED_STREAMS = 4
_streams: WeakKeyDictionary[Any, OrderedDict[tuple[str, int, int], np.ndarray]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Tokens:
    """Windows of token ids, and where they come from.

    Attributes
    ----------
    ids : int64 [samples, seqlen]
    name, sha256, span
        Of the `Text` the windows were taken from; ``span`` is in characters and covers every window.
    selection
        In words, how the windows were chosen.
    seed
        Of the random choice; None where nothing was random.
    """

    ids: np.ndarray
    name: str
    sha256: str
    span: tuple[int, int]
    selection: str
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.dtype != np.int64 or not self.ids.size:
            raise ArgumentError(
                f"ids of shape {self.ids.shape} and type {self.ids.dtype}: "
                "want a non-empty int64 array [samples, seqlen]; Tokens.of(ids) makes one"
            )

    @classmethod
    def of(cls, ids: Any, name: str = "token ids") -> Tokens:
        """Wrap ready-made token ids ``[samples, seqlen]``, e.g. of a model without a tokenizer."""
        array = np.ascontiguousarray(np.asarray(ids), dtype=np.int64)
        digest = hashlib.sha256(array.astype("<i8").tobytes()).hexdigest()
        return cls(array, name, digest, (0, array.size), f"{len(array)} given windows")

    @property
    def samples(self) -> int:
        """Number of windows."""
        return int(self.ids.shape[0])

    @property
    def seqlen(self) -> int:
        """Tokens per window."""
        return int(self.ids.shape[1])

    @cached_property
    def hash(self) -> str:
        """SHA-256 over the window length and the ids."""
        return hashlib.sha256(b"%d:" % self.seqlen + self.ids.astype("<i8").tobytes()).hexdigest()

    @property
    def provenance(self) -> dict[str, Any]:
        """All but the ids, ready for JSON; a recipe keeps it and `check_disjoint` takes it."""
        return {
            "text": self.name,
            "sha256": self.sha256,
            "span": list(self.span),
            "samples": self.samples,
            "seqlen": self.seqlen,
            "seed": self.seed,
            "selection": self.selection,
            "hash": self.hash,
        }

    def __repr__(self) -> str:
        return f"Tokens({self.samples} x {self.seqlen} of {self.name!r}, {self.selection}, {self.hash[:8]})"


def calibration(
    lm: Any, text: Text | str | Path | None = None, *, samples: int = 16, seqlen: int = 512, seed: int = 0
) -> Tokens:
    """Random windows of a text, without overlap where the text is long enough.

    Parameters
    ----------
    lm
        The model handle whose tokenizer is used.
    text
        A `Text` or anything `load_text` takes; None for the calibration part of the built-in text.
    samples, seqlen
        Number of windows and tokens in each.
    seed
        Same seed, same windows.

    Raises
    ------
    DataError
        If the text is shorter than one window, or than ``samples`` different ones.
    """
    text = load_text().split()[0] if text is None else load_text(text)
    _check_sizes(lm, samples=samples, seqlen=seqlen)
    stream = token_stream(lm, text, seqlen)
    rng = np.random.default_rng(seed)
    spare, starts_possible = len(stream) - samples * seqlen, len(stream) - seqlen + 1
    if spare >= 0:
        offset = int(rng.integers(0, min(seqlen, spare + 1)))
        slots = (len(stream) - offset) // seqlen
        starts = offset + seqlen * rng.choice(slots, size=samples, replace=False)
        how = f"{samples} random windows, no overlap, seed {seed}"
    elif starts_possible >= samples:
        starts = rng.choice(starts_possible, size=samples, replace=False)
        how = f"{samples} random windows, some overlap, seed {seed}"
    else:
        raise DataError(
            f"{text.name}: {len(stream)} tokens hold only {starts_possible} different windows of {seqlen}, "
            f"{samples} are wanted: give a longer text or fewer samples"
        )
    return Tokens(_windows(stream, starts, seqlen), text.name, text.sha256, text.span, how, seed)


def evaluation(
    lm: Any, text: Text | str | Path | None = None, *, seqlen: int = 512, windows: int | None = None
) -> Tokens:
    """Consecutive windows without overlap, from the start of a text.

    Parameters
    ----------
    lm
        The model handle whose tokenizer is used.
    text
        A `Text` or anything `load_text` takes; None for the evaluation part of the built-in text.
    seqlen
        Tokens per window; what is left at the end is not used.
    windows
        At most this many, spread evenly over all of them; None takes all.

    Raises
    ------
    DataError
        If the text is shorter than one window.
    """
    text = load_text().split()[1] if text is None else load_text(text)
    _check_sizes(lm, windows=1 if windows is None else windows, seqlen=seqlen)
    stream = token_stream(lm, text, seqlen)
    available = len(stream) // seqlen
    taken = available if windows is None else min(windows, available)
    slots = np.arange(taken) * available // taken
    how = f"all {taken}" if taken == available else f"{taken} of {available} evenly spread"
    ids = _windows(stream, slots * seqlen, seqlen)
    return Tokens(ids, text.name, text.sha256, text.span, f"{how} consecutive windows, no overlap")


def check_disjoint(a: Tokens | Mapping[str, Any], b: Tokens | Mapping[str, Any]) -> None:
    """Refuse calibration and evaluation on the same words.

    Parameters
    ----------
    a, b
        Tokens, or the ``provenance`` of tokens as a recipe keeps it.

    Raises
    ------
    DataError
        If both come from one text (same SHA-256) and their spans overlap.
    """
    first, second = (dict(x) if isinstance(x, Mapping) else x.provenance for x in (a, b))
    if first["sha256"] != second["sha256"]:
        return
    start, end = max(first["span"][0], second["span"][0]), min(first["span"][1], second["span"][1])
    if start < end:
        raise DataError(
            f"calibration and evaluation share {end - start} characters of {second['text']!r}: the figure "
            "would flatter the method. Use two texts, or the two parts of load_text(...).split()"
        )


def check_fits(lm: Any, tokens: Tokens) -> None:
    """Refuse windows that a model cannot read.

    Raises
    ------
    DataError
        If a token id is beyond the model's vocabulary.
    ArgumentError
        If the windows are longer than the model's table of positions (rotary ones have none).
    """
    module = getattr(lm, "lm", lm).module
    known, highest = module.get_input_embeddings().weight.shape[0], int(tokens.ids.max())
    if not 0 <= int(tokens.ids.min()) <= highest < known:
        raise DataError(f"{tokens!r} has token ids up to {highest}, but this model knows {known}: use its tokenizer")
    tables = sum(hasattr(m, "num_embeddings") for m in module.modules())
    if tables > 1:
        _check_sizes(lm, seqlen=tokens.seqlen)


def _check_sizes(lm: Any, **sizes: int) -> None:
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ArgumentError(f"{name}={value!r}: a whole number of at least 1")
    config = getattr(getattr(getattr(lm, "lm", lm), "module", None), "config", None)
    limit = getattr(config, "max_position_embeddings", None)
    if limit and sizes["seqlen"] > limit:
        raise ArgumentError(f"seqlen={sizes['seqlen']}: this model takes at most {limit} positions")
    if sizes["seqlen"] < 2:
        raise ArgumentError("seqlen=1: a window needs 2 tokens or more: the first is never predicted")


def token_stream(lm: Any, text: Text, seqlen: int) -> np.ndarray:
    """All tokens of a text, int64 ``[tokens]``, made once; `DataError` if there are fewer than ``seqlen``."""
    tokenizer: PreTrainedTokenizerBase | None = getattr(getattr(lm, "lm", lm), "tokenizer", None)
    if tokenizer is None:
        raise DataError("this model has no tokenizer: wrap(module, tokenizer), or pass Tokens.of(ids)")
    cache = _streams.setdefault(tokenizer, OrderedDict())
    key = (text.sha256, *text.span)
    if key not in cache:
        # verbose=False: a text longer than the model's context is what we want here, not worth a warning
        encoded = tokenizer(text.content, add_special_tokens=False, verbose=False)
        cache[key] = np.asarray(encoded["input_ids"], dtype=np.int64)
        while len(cache) > _CACHED_STREAMS:
            cache.popitem(last=False)
    stream = cache[key]
    cache.move_to_end(key)
    if len(stream) < seqlen:
        raise DataError(
            f"{text.name}: {len(stream)} tokens, but one sequence needs {seqlen}: give a longer text or a "
            "smaller seqlen"
        )
    return stream


def _windows(stream: np.ndarray, starts: np.ndarray, seqlen: int) -> np.ndarray:
    return np.ascontiguousarray(stream[np.asarray(starts)[:, None] + np.arange(seqlen)])
