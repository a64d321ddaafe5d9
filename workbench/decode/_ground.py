"""What claims about decoding are checked on: a model on a runtime, prompts, seeds; public in `claims`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from workbench.decode.generation import Generation, generate
from workbench.decode.prompts import KINDS, Prompt, prompts
from workbench.errors import ArgumentError
from workbench.execute._clock import torch_threads
from workbench.execute.compiled import Compiled, compile  # noqa: A004
from workbench.jobs import Progress
from workbench.models import LM, load


@dataclass(frozen=True, slots=True)
class DecodingConditions:
    """Of a claim about decoding.

    Attributes
    ----------
    model, runtime : str
        What decoded, and by which code.
    threads : int
    new_tokens : int
        At most, of every answer.
    prompts : tuple of str
        Their names; checks take those of some kinds, or items of their own.
    seeds : tuple of int
        Of what is drawn, and repetitions of what is timed.
    """

    model: str
    runtime: str
    threads: int
    new_tokens: int
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]

    def rows(self) -> list[tuple[str, Any]]:
        """Names and values, all of them."""
        return [
            ("model", self.model),
            ("runtime", self.runtime),
            ("threads", self.threads),
            ("tokens of an answer, at most", self.new_tokens),
            ("prompts", f"{len(self.prompts)} of our own: {_ranges(self.prompts)}"),
            ("seeds", ", ".join(map(str, self.seeds))),
        ]

    def summary(self) -> str:
        """In one sentence."""
        return (
            f"Model {self.model} on the runtime {self.runtime}; answers of at most {self.new_tokens} tokens to the "
            f"workbench's own prompts, seeds {', '.join(map(str, self.seeds))}; time is that of decoding, without the "
            "prompt's pass."
        )


@dataclass(slots=True, eq=False)
class DecodingContext:
    """What claims about decoding are checked on: a model on a runtime, prompts, seeds.

    Attributes
    ----------
    model
        What decodes: a `Compiled`, or a model handle.
    lm
        The same as a model handle, for checks that make a draft of it; None if there is none.
    prompts
        Checks take those of the kinds that they are about.
    new_tokens
        At most so many per answer.
    seeds
        Of draws, and repetitions of what is timed.
    threads
        Of torch; None leaves them as they are.
    progress
        Hears of every answer.
    """

    model: Any
    lm: LM | None = None
    prompts: tuple[Prompt, ...] = field(default_factory=prompts)
    new_tokens: int = 64
    seeds: tuple[int, ...] = (0, 1, 2)
    threads: int | None = None
    progress: Progress = field(default_factory=Progress)
    _made: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.seeds or not self.prompts or self.new_tokens < 2:
            raise ArgumentError("a context needs at least one seed, one prompt, and new_tokens of at least 2")

    @classmethod
    def of(cls, model: Any = None, *, threads: int | None = None, progress: Progress | None = None) -> DecodingContext:
        """The usual one: the embedded model, or another, compiled dense in float32."""
        progress = progress or Progress()
        lm = load(model) if model is None or isinstance(model, str) else model
        with torch_threads(threads or torch.get_num_threads()):
            compiled = compile(lm, "dense", threads=threads, progress=progress)
        return cls(compiled, lm, threads=threads, progress=progress)

    @property
    def runtime(self) -> str:
        """By which code it decodes."""
        if isinstance(self.model, Compiled):
            return f"compiled, {self.model.format}, {self.model.values}"
        return f"transformers, {str(self.model.module.dtype).removeprefix('torch.')}"

    def conditions(self) -> DecodingConditions:
        """Model, runtime, prompts."""
        threads = self.model.threads if isinstance(self.model, Compiled) else self.threads or torch.get_num_threads()
        names = tuple(p.name for p in self.prompts)
        return DecodingConditions(self.model.source, self.runtime, threads, self.new_tokens, names, self.seeds)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Torch has as many threads as asked."""
        with torch_threads(self.threads or torch.get_num_threads()):
            yield

    def of_kinds(self, kinds: Sequence[str] = ()) -> tuple[Prompt, ...]:
        """Its prompts of these kinds, or all."""
        wanted = {p.kind for p in prompts(*kinds)} if kinds else set(KINDS)
        found = tuple(p for p in self.prompts if p.kind in wanted)
        if not found:
            raise ArgumentError(f"the context has no prompts of the kinds {', '.join(kinds)}")
        return found

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` returns, made only once: a pruned draft, trained heads."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def generate(self, method: Any, prompt: Prompt | str | Sequence[int], seed: int = 0, **options: Any) -> Generation:
        """One answer, recorded without distributions; options as those of `workbench.generate`."""
        ids = prompt.ids(self.model.tokenizer) if isinstance(prompt, Prompt) else prompt
        given = {"max_new_tokens": self.new_tokens, "detail": False, "progress": self.progress, **options}
        listener, self.progress.listener = self.progress.listener, None  # every token would be too often
        try:
            return generate(self.model, ids, method, seed=seed, **given)
        finally:
            self.progress.listener = listener


def _ranges(names: Sequence[str]) -> str:
    """Names without their numbers, each once."""
    return ", ".join(dict.fromkeys(name.rsplit("-", 1)[0] for name in names))
