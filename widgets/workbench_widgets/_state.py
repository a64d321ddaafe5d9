"""Results as what the front end gets: plain dictionaries, numbers that are not finite as None."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from workbench.measure import Quality
from workbench.models import LM
from workbench.prune import ALLOCATIONS, REPAIRS, methods
from workbench.results import json_ready
from workbench.session import Choice, Samples, Session, Variant
from workbench.session.sampling import running
from workbench.session.variants import MEASURE_DENSE
from workbench.weights import DEFAULT_NAME

POINTS = 200  # of a curve
FAMILIES = {
    "weights": "Weights: zeroed by a mask",
    "channels": "Neurons and heads: removed",
    "layers": "Layers: removed",
}


def choice(made: Choice) -> dict[str, Any]:
    """Everything chosen but the sparsity, which has a trait of its own."""
    return {k: v for k, v in dataclasses.asdict(made).items() if k != "sparsity"}


def catalogue() -> list[dict[str, Any]]:
    """The methods, in families, as the menu shows them."""
    entries = [_method(m) for m in methods()]
    return sorted(entries, key=lambda e: [x["family"] for x in entries].index(e["family"]))


def frame(made: Any, names: tuple[str, ...], request: int) -> dict[str, Any]:
    """One picture: a header and two buffers, which go out in one message.

    Returns
    -------
    dict
        ``frame``; ``cells`` uint8 [layers, modules, tile, tile]; ``kept`` float32 [layers, modules].
    """
    layers, modules, tile, _ = made.cells.shape
    header = {
        "request": request,
        "sparsity": float(made.sparsity),
        "layers": layers,
        "names": list(names),
        "tile": tile,
        "removed": int(made.removed_parameters),
        "total": int(made.total_parameters),
    }
    if modules != len(names):
        header["names"] = [str(i) for i in range(modules)]
    cells = np.ascontiguousarray(made.cells, dtype=np.uint8).tobytes()
    return {"frame": header, "cells": cells, "kept": np.ascontiguousarray(made.kept, dtype="<f4").tobytes()}


def beginning(session: Session) -> dict[str, Any]:
    """All traits of a studio that has just been opened."""
    return {
        "catalogue": catalogue(),
        "options": {"allocations": list(ALLOCATIONS), "repairs": list(REPAIRS)},
        "facts": facts(session),
        "choice": choice(session.choice),
        "sparsity": session.choice.sparsity,
        "prompt": session.prompt,
        **keeping(session),
    }


def facts(session: Session) -> dict[str, Any]:
    """What the header says of the model."""
    return {
        "name": _name(session.dense),
        "parameters": stored(session.dense)[0],
        "layers": session.dense.architecture.num_layers,
        "of": "all but the embeddings",
    }


def stored(lm: LM) -> tuple[int, int]:
    """Parameters and bytes of a model, at once: `workbench.size` looks at every weight for zeros too."""
    own = list(lm.module.parameters())
    return sum(p.numel() for p in own), sum(p.numel() * p.element_size() for p in own)


def figures(variant: Variant) -> dict[str, Any]:
    """Everything measured of a variant: quality, size, speed, samples."""
    quality: dict[str, Any] = {"before": _curve(variant.before), "after": _curve(variant.after)}
    quality["protocol"] = _protocol(variant.after.protocol)
    made = {
        "quality": quality,
        "size": _sizes(variant.dense_size, variant.size, variant.compiled),
        "speed": {},
        "samples": {},
    }
    if variant.speed is not None:
        made["speed"] = _speed(variant.speed)
    if variant.samples is not None:
        made["samples"] = dataclasses.asdict(variant.samples)
    return made


def keeping(session: Session) -> dict[str, Any]:
    """The list of variants, and what can be undone."""
    current = session.applied
    first = {
        "id": -1,
        "name": "dense",
        "sparsity": 0.0,
        "bytes": stored(session.dense)[1],
        "current": current is None,
    }
    quality = session.dense_quality
    first.update(perplexity=quality.perplexity if quality else None, prefill=None, decode=None)
    history = {
        "can_undo": session.can_undo,
        "can_redo": session.can_redo,
        "current": current.name if current else "",
    }
    rows = [_row(v, v is current) for v in session.variants]
    return {"variants": json_ready([first, *rows]), "history": history}


def exported(saved: Any) -> dict[str, Any]:
    """Where a checkpoint lies and who can read it."""
    how = "plain transformers" if saved.kind == "transformers" else "layers of different sizes: workbench.load reads it"
    return {"folder": str(saved.folder), "bytes": saved.bytes, "how": how}


def found(part: str, partial: Any, shown: dict[str, Any]) -> dict[str, Any]:
    """Traits that a partial result changes.

    Parameters
    ----------
    part
        The stage that found it.
    shown
        The ``quality`` trait as it is, to which a running estimate is added.
    """
    if isinstance(partial, Quality):
        side = "before" if part == MEASURE_DENSE else "after"
        return {"quality": {**shown, side: _curve(partial), "protocol": _protocol(partial.protocol)}}
    if isinstance(partial, Samples):
        return {"samples": dataclasses.asdict(partial)}
    if isinstance(partial, tuple):
        return {"size": _sizes(*partial)}
    return {}


def _curve(quality: Quality) -> dict[str, Any]:
    points = running(quality)
    if len(points) > POINTS:
        points = points[np.linspace(0, len(points) - 1, POINTS).round().astype(int)]
    ends = {"perplexity": quality.perplexity, "low": quality.low, "high": quality.high}
    return json_ready({**ends, "curve": points})


def _protocol(protocol: Any) -> str:
    windows = f"windows of {protocol['seqlen']} tokens"
    return f"{protocol['text']}; {windows}, no overlap, {protocol['dtype']}; [95 % interval]"


def _sizes(dense: Any, pruned: Any, packed: bool = False) -> dict[str, Any]:
    named = {"dense": (dense, False), "pruned": (pruned, packed)}
    return {
        k: {"parameters": s.parameters, "nonzero": s.nonzero_parameters, "bytes": s.weight_bytes, "packed": p}
        for k, (s, p) in named.items()
    }


def _row(variant: Variant, current: bool) -> dict[str, Any]:
    speed = variant.speed
    return {
        "id": variant.number,
        "name": variant.name,
        "sparsity": variant.sparsity,
        "perplexity": variant.after.perplexity,
        "bytes": variant.size.weight_bytes,
        "prefill": speed.prefill.ratio if speed else None,
        "decode": speed.decode.ratio if speed else None,
        "current": current,
    }


def _method(info: Any) -> dict[str, Any]:
    citation = info.citation
    url = f"arXiv:{citation.arxiv}" if citation is not None and citation.arxiv else ""
    text = f"{citation.authors} ({citation.year}). {citation.title}." if citation is not None else ""
    data = "gradients on calibration text" if "gradient" in info.needs else "calibration text, forward passes only"
    needs = f"Needs {data}." if info.needs else "Needs no data."
    return {
        "name": info.name,
        "title": info.title,
        "family": FAMILIES.get(info.family, info.family),
        "units": list(info.units),
        "patterns": [p for p in info.patterns if p != "unstructured"],
        "citation": {"text": text, "url": url},
        "formula": info.formula,
        "needs": needs,
        "allocation": info.default_allocation,
        "repair": info.default_repair,
    }


def _name(lm: LM) -> str:
    return DEFAULT_NAME if lm.source == "default" else lm.source


def _speed(speed: Any) -> dict[str, Any]:
    phases = {"prefill": speed.prefill, "decode": speed.decode}
    names = ("ratio", "low", "high", "verdict")
    made = {phase: {n: getattr(timing, n) for n in names} for phase, timing in phases.items()}
    threads = "1 thread" if speed.threads == 1 else f"{speed.threads} threads"
    note = f"{speed.prompt_tokens} tokens in, {speed.new_tokens} out, {threads}; above 1 is faster"
    return json_ready({**made, "note": note})
