"""Every registered way of decoding keeps the rules; rules that are broken are named."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import pytest

from workbench.decode import Decoder, Run, decoders, registry
from workbench.testing import CheckFailed, check_decoder

NAMES = tuple(d.name for d in decoders())


@pytest.mark.parametrize("name", NAMES)
def test_every_decoder_keeps_the_rules(name: str) -> None:
    check_decoder(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_decoder_says_where_it_comes_from(name: str) -> None:
    cls = registry()[name]
    header = sys.modules[cls.__module__].__doc__ or ""
    assert cls.title
    assert cls.formula
    assert not [f.name for f in fields(cls) if f.name not in "".join(c.__doc__ or "" for c in cls.__mro__)]
    if cls.citation is not None:
        assert str(cls.citation.year) in header
        assert cls.citation.arxiv in header
        assert cls.citation.arxiv == "" or re.fullmatch(r"\d{4}\.\d{4,5}", cls.citation.arxiv)
        assert cls.claim is not None
        assert cls.claim.statement.endswith(".")
        assert re.search("epart|[Hh]ere ", header), "the header says where we depart from the paper, or that we do not"


@dataclass(frozen=True)
class Faulty(Decoder):
    """Greedy decoding with a fault."""

    name: ClassVar[str] = "faulty"
    title: ClassVar[str] = "Faulty"
    family: ClassVar[str] = "speculative"
    promises: ClassVar[str] = "distribution"
    formula: ClassVar[str] = "argmax p, mostly"

    fault: str = ""

    def decode(self, run: Run) -> None:
        logits = run.prefill().logits[-1]
        chance = np.random.default_rng() if self.fault == "own chance" else run.random
        while True:
            if self.fault == "second best" and run.emitted == 5:
                logits = np.where(logits == logits.max(), -np.inf, logits)
            token = run.sampler.choose(logits * (2 if self.fault == "colder" else 1), chance)
            parent = -1
            if self.fault == "other parent":
                parent = run.trace.add("draft", token=token + 1, parent=-1)
            if self.fault == "later parent":
                parent = len(run.trace) + 2
            if not run.emit(token, parent, logits=logits):
                break
            run.trace.step += 1 if self.fault != "steps" else -1
            if self.fault == "uncounted":
                logits = run.target.forward(run.tokens[-1:]).logits[-1]
            else:
                logits = run.forward(run.tokens[-1:]).logits[-1]
            run.trace.add("verify", value=1)
        if self.fault == "one more":
            run.tokens.append(5)
        if self.fault == "hook":
            run.target.module.register_forward_hook(lambda *_: None)  # type: ignore[attr-defined]
        if self.fault == "weights":
            next(run.target.module.parameters()).data[0, 0] += 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("own chance", "same seed, other tokens"),
        ("second best", "greedy decoding"),
        ("colder", "not distributed as the model's"),
        ("other parent", "follows from token"),
        ("later parent", "comes after it"),
        ("steps", "step do not ascend"),
        ("uncounted", "passes recorded"),
        ("one more", "tokens where at most 1"),
        ("hook", "hooks stay"),
        ("weights", "the model was changed"),
    ],
)
def test_faults_are_named(fault: str, said: str) -> None:
    with pytest.raises(CheckFailed, match=said):
        check_decoder(Faulty(fault), samples=1500)


def test_without_a_fault_it_passes() -> None:
    check_decoder(Faulty())


@dataclass(frozen=True)
class Careless(Faulty):
    """Takes every hyper-parameter."""

    tokens: int = 3

    def decode(self, run: Run) -> None:
        super().decode(run)


def test_what_is_not_checked_is_named() -> None:
    with pytest.raises(CheckFailed, match="it takes tokens=-1000000000; it must raise ArgumentError"):
        check_decoder(Careless())
    loose: Any = Careless(fault="", tokens=4)
    assert loose.parameters == {"fault": "", "tokens": 4}
