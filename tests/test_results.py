"""What every result shares: provenance, dictionary, one line, text and HTML that agree."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, dataclass, field
from pathlib import Path

import numpy as np
import pytest

from workbench import render
from workbench.results import Provenance, Result, json_ready


@dataclass(frozen=True, eq=False, repr=False)
class Sample(Result):
    name: str
    seconds: float
    values: np.ndarray = field(repr=False)
    provenance: Provenance = field(repr=False)


@dataclass(frozen=True, eq=False, repr=False)
class Described(Sample):
    def _headline(self) -> str:
        return "Described <b>"

    def _sections(self) -> tuple[render.Section, ...]:
        return (render.section("A & B", [("x", 1.0)]), render.prose("Where", str(self.provenance)))


def sample(kind: type[Sample] = Sample) -> Sample:
    return kind("s", 0.25, np.array([1.0, np.nan]), Provenance.here(seed=3, method="wanda()"))


def test_one_line_repr() -> None:
    assert repr(sample()) == "Sample(name='s', seconds=0.25)"


def test_to_dict_is_json() -> None:
    data = json.loads(json.dumps(sample().to_dict(), allow_nan=False))
    assert data["values"] == [1.0, None]
    assert data["provenance"]["seed"] == 3
    assert data["provenance"]["method"] == "wanda()"
    assert data["provenance"]["versions"]["torch"]
    assert data["provenance"]["torch_threads"] >= 1


@pytest.mark.parametrize("kind", [Sample, Described])
def test_bundle_names_the_same_sections(kind: type[Sample]) -> None:
    result = sample(kind)
    bundle = result._repr_mimebundle_(include=None, exclude=None)
    assert set(bundle) == {"text/plain", "text/html"}
    for part in result._sections():
        assert part.title in bundle["text/plain"]
        assert part.title.replace("&", "&amp;") in bundle["text/html"]
        assert part.html in bundle["text/html"]
    assert "<b>" not in bundle["text/html"]


def test_results_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        sample().seconds = 1.0  # type: ignore[misc]


def test_json_ready_takes_everything() -> None:
    assert json_ready({"p": Path("a"), "s": {2, 1}, "n": np.int64(3), "t": (np.bool_(True), None, 1.5)}) == {
        "p": "a",
        "s": [1, 2],
        "n": 3,
        "t": [True, None, 1.5],
    }
    assert json_ready(sample())["name"] == "s"
    assert json_ready(float("-inf")) is None
