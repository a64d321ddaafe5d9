"""One text read by one model, with everything that can be said of its attention: what the lens shows.

text -> heads (metrics, kinds, pictures, maps) -> what sparse patterns cost -> what smaller KV caches keep
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench import render
from workbench.attention import _study_pictures as pictures
from workbench.attention._study_pictures import LOOKS, floor_of, pooled
from workbench.attention.metrics import HeadTable, heads
from workbench.errors import ArgumentError, ModelError
from workbench.jobs import Progress
from workbench.models import LM, as_lm
from workbench.results import Result

__all__ = ["LOOKS", "AttentionStudy", "floor_of", "pieces_of", "pooled", "study", "tokens_of"]


@dataclass(frozen=True, eq=False, repr=False)
class AttentionStudy(Result):
    """Attention of every head over one text.

    Attributes
    ----------
    table : HeadTable
        Metrics, kinds, pictures.
    pieces : tuple of str
        The text's tokens as text.
    curves : PatternCurves or None
        Recall, cost and harm of sparse patterns.
    history : KVHistory or None
        Which rows smaller KV caches keep over time.
    """

    table: HeadTable
    pieces: tuple[str, ...] = field(repr=False)
    curves: Any = None
    history: Any = None

    def __post_init__(self) -> None:
        if len(self.pieces) != self.table.tokens:
            raise ArgumentError(f"pieces has {len(self.pieces)} tokens, table has {self.table.tokens}: one text's")

    def to_dict(self) -> dict[str, Any]:
        """Every figure, ready for JSON; not the pictures."""
        return {
            "heads": self.table.to_dict(),
            "pieces": list(self.pieces),
            "patterns": None if self.curves is None else self.curves.to_dict(),
            "kv": None if self.history is None else self.history.to_dict(),
        }

    def _headline(self) -> str:
        parts = [f"{len(self.table.kinds)} x {self.table.kinds.shape[1]} heads over {self.table.tokens} tokens"]
        if self.curves is not None:
            parts.append(f"{len({row.name for row in self.curves.rows})} sparse patterns")
        if self.history is not None:
            parts.append(f"{len(self.history.methods)} KV caches")
        return f"AttentionStudy({self.table.source}: {', '.join(parts)})"

    def _sections(self) -> tuple[render.Section, ...]:
        found = [pictures.overview(self.table), pictures.text(self.table, self.pieces), *_of(self.table)]
        if self.curves is not None:
            found += [pictures.recall(self.curves), pictures.harm(self.curves)]
        if self.history is not None:
            found += [pictures.kept(self.history), pictures.grown(self.history)]
        return tuple(found)


def _of(table: HeadTable) -> tuple[render.Section, ...]:
    """The table's own sections; the overview names the kinds already."""
    return tuple(part for part in table._sections() if part.title != "Kinds of heads")


def study(
    model: Any,
    ids: str | Sequence[int] | np.ndarray,
    *,
    patterns: Any = "all",
    kv: Any = "all",
    states: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> AttentionStudy:
    """Read a text and look at its attention from all sides.

    Parameters
    ----------
    model
        A model handle, pruned result or transformers causal LM.
    ids
        A text, or its token ids; at least 2 tokens.
    patterns
        Names of sparse patterns to measure, ``"all"`` (none on a model that they cannot run on), or ``()`` for none.
    kv
        Names of KV methods to follow, ``"all"``, or ``()`` for none; they read all but the last 64 tokens, which then
        come one by one.
    states
        Keep queries and keys in a temporary file, so that any window of any map can be worked out exactly.
    seed
        Of the random text that finds induction heads.
    progress
        Hears what is done; cancels.

    Raises
    ------
    ArgumentError
        If the text is too short or too long, or a name is unknown.

    Examples
    --------
    >>> workbench.attention.study(workbench.load(), text, patterns=(), kv=())           # doctest: +SKIP
    AttentionStudy(default: 30 x 9 heads over 512 tokens)
    """
    lm, progress = as_lm(model), progress or Progress()
    tokens = tokens_of(lm, ids)
    chosen_patterns, chosen_kv = _chosen("patterns", patterns), _chosen("kv", kv)
    table = heads(lm, tokens, seed=seed, states=states, progress=progress)
    curves = _curves(lm, tokens, chosen_patterns, progress)
    return AttentionStudy(table, pieces_of(lm, tokens), curves, _history(lm, tokens, chosen_kv, progress))


def _curves(lm: LM, tokens: np.ndarray, names: Any, progress: Progress) -> Any:
    if names is None:
        return None
    from workbench.attention.patterns.curves import curves

    try:
        return curves(lm, tokens, names, progress=progress)
    except ModelError:  # layers with windows or capped scores
        if names == "all":
            return None
        raise


def _history(lm: LM, tokens: np.ndarray, names: Any, progress: Progress) -> Any:
    if names is None:
        return None
    from workbench.attention.kv.history import kv_history

    return kv_history(lm, tokens, names, steps=min(64, len(tokens) // 4), progress=progress)


def tokens_of(lm: LM, text: Any) -> np.ndarray:
    """Token ids of a text, int64.

    Raises
    ------
    ArgumentError
        If it is text and the model has no tokenizer, or no ids.
    """
    if isinstance(text, str):
        if lm.tokenizer is None:
            raise ArgumentError("ids is text, and the model has no tokenizer: pass token ids")
        text = lm.tokenizer(text)["input_ids"]
    try:
        return np.asarray(text, np.int64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"ids={text!r:.60} is no text and no token ids") from error


def pieces_of(lm: LM, tokens: np.ndarray) -> tuple[str, ...]:
    """Every token as text; its number where there is no tokenizer."""
    tokenizer = lm.tokenizer
    known = {int(t): f"<{t}>" if tokenizer is None else str(tokenizer.decode([int(t)])) for t in np.unique(tokens)}
    return tuple(known[int(t)] for t in tokens)


def _chosen(name: str, given: Any) -> Any:
    """``"all"``, names as a list, or None for nothing."""
    if given == "all":
        return given
    if isinstance(given, str):
        return [given]
    try:
        return list(given) or None
    except TypeError:
        raise ArgumentError(f"{name}={given!r}: 'all', names, or () for none") from None
