"""Which cache rows each method keeps over time: `kv_history`.

    read the prompt -> for every method: copy the cache, compress it, read the rest token by token, note what goes

All methods see the same text. A method that drops nothing while decoding is not run on: its rows stay, and each token
adds one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from workbench import render
from workbench.attention.kv._method import METHODS, KVMethod
from workbench.attention.kv.target import CompressedTarget
from workbench.errors import ArgumentError
from workbench.jobs import Progress
from workbench.models import as_lm
from workbench.results import Provenance, Result

PARTS = 10  # of the prompt, in tables and pictures
HERE = -1


@dataclass(frozen=True, eq=False, repr=False)
class KVHistory(Result):
    """What became of every row of a cache.

    Attributes
    ----------
    source : str
    prompt, steps : int
        Tokens read before the caches were compressed, and one by one after it.
    budget : float
        Share of the prompt's keys that each head keeps, or a number of keys.
    methods : tuple of str
    dropped : mapping of str to int32 [layers, KV heads, prompt + steps]
        By method, for every token how many tokens had been read when its row was dropped; -1: it is there at the end.
        What a method keeps from being read at all counts as dropped after the prompt.
    nbytes : mapping of str to int64 [steps + 1]
        Of the cache after the prompt, and after every step.
    dense_nbytes : int64 [steps + 1]
        Of a cache that keeps everything.
    provenance : Provenance
    """

    source: str
    prompt: int
    steps: int
    budget: float
    methods: tuple[str, ...]
    dropped: Mapping[str, np.ndarray]
    nbytes: Mapping[str, np.ndarray]
    dense_nbytes: np.ndarray
    provenance: Provenance = field(repr=False)

    def kept(self, method: str, step: int) -> np.ndarray:
        """Which rows are there after so many steps: bool ``[layers, KV heads, prompt + step]``.

        Raises
        ------
        ArgumentError
            If there was no such step.
        """
        if not 0 <= step <= self.steps:
            raise ArgumentError(f"step={step}: from 0 to {self.steps}")
        read = self.prompt + step
        gone: np.ndarray = self.dropped[method][..., :read]
        return (gone == HERE) | (gone > read)

    def parts(self, method: str, step: int | None = None) -> np.ndarray:
        """Share of the prompt's rows that are there, over layers and heads, by tenth of the prompt: float64 ``[10]``.

        Parameters
        ----------
        step
            After so many; None for all.
        """
        kept = self.kept(method, self.steps if step is None else step)[..., : self.prompt].mean((0, 1))
        return np.array([part.mean() for part in np.array_split(kept, min(PARTS, self.prompt))])

    def to_dict(self) -> dict[str, Any]:
        """Every figure, ready for JSON; of the rows their share by part of the prompt, not each of them."""
        found = super().to_dict()
        del found["dropped"]
        return found | {"parts": {name: self.parts(name).tolist() for name in self.methods}}

    def _headline(self) -> str:
        shares = {name: self.nbytes[name][-1] / self.dense_nbytes[-1] for name in self.methods}
        least = min(shares, key=lambda name: shares[name])
        return (
            f"KVHistory({self.source}: {len(self.methods)} methods, {self.prompt} + {self.steps} tokens; "
            f"smallest {least}, {shares[least]:.0%} of the bytes)"
        )

    def _sections(self) -> tuple[render.Section, ...]:
        parts = [self.parts(name) for name in self.methods]
        names = [f"{k + 1}" for k in range(len(parts[0]))]
        shares = [
            (self.nbytes[n][0] / self.dense_nbytes[0], self.nbytes[n][-1] / self.dense_nbytes[-1]) for n in self.methods
        ]
        rows = [
            (name, f"{start:.0%}", f"{end:.0%}", *(f"{x:.0%}" for x in part))
            for name, (start, end), part in zip(self.methods, shares, parts, strict=True)
        ]
        header = ("method", "bytes after the prompt", "at the end", *(f"part {n}" for n in names))
        title = "Share of rows still there, by part of the prompt"
        protocol = [
            ("keys kept", f"{self.budget:.0%}" if self.budget <= 1 and isinstance(self.budget, float) else self.budget),
            ("tokens of the prompt", self.prompt),
            ("tokens read after it, one by one", self.steps),
        ]
        picture = render.heatmap_svg(np.array(parts), self.methods, names, title=title)
        return (
            render.section(title, rows, header, picture=picture),
            render.section("Protocol", protocol),
            render.prose("Provenance", str(self.provenance)),
        )


def kv_history(
    model: Any,
    ids: Sequence[int] | np.ndarray,
    methods: str | Sequence[str | KVMethod] = "all",
    budget: float = 0.25,
    steps: int = 64,
    *,
    progress: Progress | None = None,
) -> KVHistory:
    """Follow every row of the cache while a text is read with each method.

    Parameters
    ----------
    model
        A model handle, pruned result or transformers causal LM.
    ids
        Tokens of a text; the last ``steps`` of them are read one by one, the rest is the prompt.
    methods
        Names or `KVMethod` objects, or ``"all"``.
    budget
        As for `CompressedTarget`.
    progress
        Hears after every method; cancels.

    Raises
    ------
    ArgumentError
        If the text is too short, two methods have one name, or a name is unknown.
    """
    lm, tokens, progress = as_lm(model), np.asarray(ids, np.int64).reshape(-1), progress or Progress()
    if steps < 0 or tokens.size - steps < 1:
        raise ArgumentError(f"steps={steps}: not negative, and less than the {tokens.size} tokens of ids")
    chosen = METHODS.several(methods)
    names = tuple(m.name for m in chosen)
    if len(set(names)) < len(names):
        raise ArgumentError(f"methods={', '.join(names)}: each only once")
    whole = CompressedTarget(lm, None, budget)
    whole.forward(tokens[: tokens.size - steps], last=True)
    row = whole.nbytes // whole.length
    dropped, nbytes = {}, {}
    for done, method in enumerate(chosen):
        progress.step("following caches", done, len(chosen))
        dropped[method.name], nbytes[method.name] = _followed(
            whole.fork(method, budget), tokens[tokens.size - steps :], row, progress
        )
    dense = row * np.arange(whole.length, tokens.size + 1, dtype=np.int64)
    where = Provenance.here()
    return KVHistory(
        lm.source, whole.length, steps, budget, names, MappingProxyType(dropped), MappingProxyType(nbytes), dense, where
    )


def _followed(
    target: CompressedTarget, rest: np.ndarray, row: int, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Of one method: when each row was dropped, and bytes after the prompt and every token."""
    target.compress()
    layers = target.kept
    dropped = np.full((len(layers), len(layers[0]), target.length + len(rest)), HERE, np.int32)
    nbytes = target.nbytes + row * np.arange(len(rest) + 1, dtype=np.int64)
    _note(dropped, target)
    if target.method is not None and target.method.always:
        for n, token in enumerate(rest, 1):
            progress.check()
            target.forward([int(token)], last=True)
            nbytes[n] = target.nbytes
            _note(dropped, target)
    return dropped, nbytes


def _note(dropped: np.ndarray, target: CompressedTarget) -> None:
    """What was there and is there no longer goes now."""
    read = target.length
    for times, heads in zip(dropped, target.kept, strict=True):
        for time, positions in zip(times[:, :read], heads, strict=True):
            gone = time == HERE
            gone[positions] = False
            time[gone] = read
