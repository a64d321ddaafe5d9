"""What the panels ask `Session.generate` for, and what they say of what came of it."""

from __future__ import annotations

import dataclasses
from typing import Any

from workbench.decode import decoders
from workbench.errors import ArgumentError
from workbench.results import json_ready
from workbench_widgets._desk import Desk

FAMILIES = {
    "baseline": "One model, plainly",
    "speculative": "Draft and verify",
    "depth": "Leave the model early",
    "search": "Search",
    "constrained": "Held to a pattern",
}
USES = ("model", "draft")


def methods() -> list[dict[str, Any]]:
    """What can be chosen: the methods for models that write from left to right."""
    found = []
    for method in decoders():
        if method.family not in FAMILIES:
            continue
        fields = {f.name for f in dataclasses.fields(method)}
        entry = {"name": method.name, "title": method.title, "family": FAMILIES[method.family]}
        kept = {"lossy": "may change the text", "greedy": "the very same text at temperature 0"}
        entry["promise"] = kept.get(method.promises, "the same text, or texts with the same chances")
        found.append({**entry, "formula": method.formula, "draft": "draft" in fields, "pattern": "pattern" in fields})
    return sorted(found, key=lambda e: list(FAMILIES.values()).index(e["family"]))


def asked(method: str, use: str, desk: Desk, options: dict[str, Any], pattern: str) -> dict[str, Any]:
    """Keyword arguments of `Session.generate`."""
    if use not in USES:
        raise ArgumentError(f"use={use!r}: 'model' or 'draft'")
    entry = next((m for m in methods() if m["name"] == method), None)
    if use == "draft" and not (entry and entry["draft"]):
        names = [m["name"] for m in methods() if m["draft"]]
        raise ArgumentError(f"{method!r} takes no draft model: one of {', '.join(names)}")
    chosen: dict[str, Any] = {"variant": desk.selected, **options}
    if use == "draft":
        chosen["variant"] = 0
        if desk.selected:
            chosen["draft"] = desk.selected
    if pattern and entry and entry["pattern"]:
        chosen["pattern"] = pattern
    return chosen


def who(desk: Desk, use: str) -> str:
    """Who speaks, and who drafts."""
    name = "dense" if desk.variant is None else desk.variant.name
    if use == "draft":
        return f"dense, drafted by {'its int8 copy' if desk.variant is None else name}"
    return name


def figures(generation: Any) -> dict[str, Any]:
    """What a generation gave and cost."""
    cost = generation.trace.cost
    said = {"text": generation.text, "tokens": cost.tokens, "finished": generation.finished}
    return json_ready({**said, "forwards": cost.target_forwards, "rate": cost.tokens_per_second})
