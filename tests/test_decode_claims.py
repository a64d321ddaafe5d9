"""Claims about decoding can hold, fail and stay open; check_lossless tells ties from bugs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

import workbench
from workbench.claims import HELD, INCONCLUSIVE, NOT_HELD
from workbench.decode import Decoder, Run
from workbench.decode.claims import DecodingContext, FasterThan, Paired, TokensPerForward
from workbench.decode.prompts import KINDS, prompts
from workbench.errors import ArgumentError
from workbench.models import wrap
from workbench.testing import tiny_lm, tiny_tokenizer


def context() -> DecodingContext:
    lm = wrap(tiny_lm(head_dim=32, max_position_embeddings=1024).module, tiny_tokenizer(), "tiny")
    return DecodingContext(lm, lm, prompts("repeat", "story"), 8, (0, 1))


@pytest.mark.parametrize(
    ("own", "status"), [((2.0, 2.2, 2.1, 2.3), HELD), ((0.5, 0.6, 0.4, 0.5), NOT_HELD), ((0.5, 3, 1, 2), INCONCLUSIVE)]
)
def test_the_verdict_follows_the_interval(own: tuple[float, ...], status: str) -> None:
    check = Paired(quantity="figure", figures=lambda *given: (own[given[2]], 1.0), tasks=(0, 1, 2, 3), at_least=1.0)
    found = check(context(), "any")
    assert found.status == status
    assert found.estimate == pytest.approx(np.exp(np.log(own).mean()))
    assert len(found.runs) == 4


def test_items_without_a_figure_are_left_out_and_differences_may_be_negative() -> None:
    figures = (float("nan"), -1.0, -1.2, -0.9)
    check = Paired(
        quantity="gap", figures=lambda *given: (figures[given[2]], 0.0), tasks=(0, 1, 2, 3), at_most=0, difference=True
    )
    found = check(context(), "any")
    assert (found.status, len(found.runs), found.note) == (HELD, 3, "left out, without a figure: 0")
    with pytest.raises(ArgumentError, match="difference=True"):
        Paired(quantity="gap", figures=lambda *_: (-1.0, 1.0), tasks=(1, 2))(context(), "any")


def test_checks_run_on_a_model() -> None:
    ground = context()
    assert TokensPerForward(at_least=0.5)(ground, "greedy").estimate == 1
    found = FasterThan(at_least=1000.0, kinds=("repeat",))(ground, "prompt-lookup")
    assert found.status == NOT_HELD
    assert [r.cells()[:2] for r in found.runs] == [("repeat-1", "2"), ("repeat-2", "2")]
    assert ground.conditions().runtime == "transformers, float32"
    with pytest.raises(ArgumentError, match="no prompts of the kinds tips"):
        ground.of_kinds(("tips",))


def test_prompts_are_of_every_kind() -> None:
    assert {p.kind for p in prompts()} == set(KINDS)
    assert len({p.name for p in prompts()}) == len(prompts()) == 20
    assert {p.group for p in prompts("copy")} == {"copy"}
    with pytest.raises(ArgumentError, match="unknown kind of prompt"):
        prompts("stories")


@dataclass(frozen=True)
class Wrong(Decoder):
    """Greedy decoding that errs at the fifth token, or that rounds its logits."""

    name: ClassVar[str] = "wrong"
    title: ClassVar[str] = "Wrong"
    family: ClassVar[str] = "speculative"
    promises: ClassVar[str] = "greedy"
    formula: ClassVar[str] = "argmax, nearly"

    chunk: int = 0

    def decode(self, run: Run) -> None:
        run.prefill()
        while not run.done:
            run.target.crop(max(0, len(run.tokens) - self.chunk) if self.chunk else len(run.tokens) - 1)
            logits = run.forward(run.tokens[run.target.length :]).logits[-1].copy()
            if not self.chunk and run.emitted == 4:
                logits[logits.argmax()] = -np.inf
            run.emit(int(logits.argmax()))


def test_a_bug_is_told_from_a_tie() -> None:
    lm = tiny_lm(head_dim=32)
    found = workbench.check_lossless(Wrong(), lm, [[5, 9, 13], [7, 8]], max_new_tokens=12)
    assert not found.held
    assert (found.bugs, [d.position for d in found.divergences]) == (2, [4, 4])
    assert found.divergences[0].gap > 2 * found.divergences[0].difference
    assert "broken" in repr(found)
    half = tiny_lm(head_dim=32, max_position_embeddings=512)
    half.module.to(torch.bfloat16)
    rounded = workbench.check_lossless(Wrong(chunk=6), half, [[n, 9, 13, n] for n in range(3, 11)], max_new_tokens=40)
    assert rounded.held
    assert all(d.verdict == "tie" for d in rounded.divergences)
    kept = workbench.check_lossless("prompt-lookup", lm, [[5, 9, 5, 9]], max_new_tokens=12, samples=400)
    assert (kept.verdict, kept.tokens) == ("kept", 12)
    assert kept.fit is not None
    assert "kept" in kept.to_text()
