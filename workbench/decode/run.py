"""One decode as its method sees it: the `Run`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from workbench.decode.recorder import Recorder
from workbench.decode.sampling import Sampler
from workbench.decode.target import Forward, Target
from workbench.errors import ArgumentError
from workbench.jobs import Progress

BLOCK = 512  # tokens of a prompt that go through the target at once


class Run:
    """What a method works with.

    Attributes
    ----------
    target : Target
        Its cache is empty at first.
    prompt : tuple of int
    tokens : list of int
        Prompt and what was emitted.
    sampler : Sampler
    random : numpy.random.Generator
        The only source of chance.
    trace : Recorder
    limit : int
        Tokens to emit at most.
    progress : Progress
    finished : str
        Why it is over; empty while it is not.
    """

    def __init__(
        self,
        target: Target,
        prompt: Sequence[int],
        *,
        sampler: Sampler | None = None,
        seed: int = 0,
        limit: int = 128,
        stop: Sequence[str] = (),
        detail: bool = True,
        stream: Callable[[str], None] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.target, self.prompt, self.tokens = target, tuple(int(t) for t in prompt), [int(t) for t in prompt]
        self.sampler, self.random = sampler or Sampler(), np.random.default_rng(seed)
        self.trace, self.limit, self.progress = Recorder(detail), limit, progress or Progress()
        self.finished, self.text = "", ""
        self.stop, self._stream = tuple(stop), stream
        self.ends = target.end_tokens
        self._shown = 0

    @property
    def done(self) -> bool:
        """Whether it is over."""
        return bool(self.finished)

    @property
    def emitted(self) -> int:
        """Tokens so far."""
        return len(self.tokens) - len(self.prompt)

    @property
    def room(self) -> int:
        """Tokens that a draft may have: what may still be emitted beyond one, and what fits into a pass."""
        left = self.target.context - self.target.length - 1
        return max(0, min(self.limit - self.emitted - 1, left, 63))

    def forward(self, ids: Sequence[int] | np.ndarray, parents: Any = None, **options: Any) -> Forward:
        """A pass of the target, counted; stops here if the job was cancelled."""
        self.progress.check()
        found = self.target.forward(ids, parents, **options)
        self.trace.target_forwards += 1
        return found

    def prefill(self, *, hidden: bool = False) -> Forward:
        """Put the whole prompt into the cache; logits (and hidden states) after its last token.

        Returns
        -------
        Forward
            ``logits[-1]`` speak about the first new token.
        """
        found: Forward | None = None
        prompt = self.target.to_read(self.prompt)
        for start in range(0, len(prompt), BLOCK):
            part = prompt[start : start + BLOCK]
            found = self.forward(part, last=True, hidden=hidden)
        if found is None:
            raise ArgumentError("prompt is empty: give at least one token")
        self.target.prompt_read()
        self.trace.add("prefill", value=len(self.prompt), position=len(self.prompt) - 1)
        return found

    def emit(self, token: int, parent: int = -1, *, logits: np.ndarray | None = None, **columns: Any) -> bool:
        """Say a token; whether the run goes on.

        Parameters
        ----------
        parent
            Event that it comes from.
        logits
            The target's that speak about it, for the record.
        """
        if self.done:
            return False
        if token in self.ends:
            self.finished = "stop token"
            return False
        self.tokens.append(int(token))
        place = len(self.tokens) - 1
        self.trace.add("emit", token=int(token), parent=parent, position=place, logits=logits, **columns)
        self.progress.step("decoding", self.emitted, self.limit)
        if self.stop or self._stream:
            self._say()
        if not self.done and self.emitted >= self.limit:
            self.finished = "limit"
        if not self.done and len(self.tokens) >= self.target.context:
            self.finished = "context"
        return not self.done

    def answer(self) -> tuple[str, list[int]]:
        """Text and tokens emitted; the text ends before a stop string. What was held back is streamed now."""
        if self._stream is not None:
            self._say(last=True)
        tokens = self.tokens[len(self.prompt) :]
        text = self.decoded(tokens)
        return (_before(text, self.stop) or [text])[0], tokens

    def decoded(self, tokens: Sequence[int]) -> str:
        """Tokens as text; empty without a tokenizer."""
        tokenizer = self.target.tokenizer
        return "" if tokenizer is None else str(tokenizer.decode(list(tokens), skip_special_tokens=True))

    def piece(self, token: int) -> str:
        """One token as text."""
        tokenizer = self.target.tokenizer
        return f"<{token}>" if tokenizer is None else str(tokenizer.decode([token]))

    def _say(self, *, last: bool = False) -> None:
        """Look for stop strings; stream what is sure to stay."""
        with self.trace.aside():
            text = self.decoded(self.tokens[len(self.prompt) :])
        cut = _before(text, self.stop)
        if cut:
            text, self.finished = cut[0], self.finished or "stop text"
        elif not last:
            if text.endswith("\N{REPLACEMENT CHARACTER}"):
                return  # half a character; it is said with the rest
            text = text[: len(text) - _begun(text, self.stop)]
        if self._stream is not None and len(text) > self._shown:
            self._stream(text[self._shown :])
        self._shown = max(self._shown, len(text))


def _before(text: str, stop: Sequence[str]) -> list[str]:
    """The text before the first of these texts, in a list; an empty list if none is in it."""
    places = [text.index(s) for s in stop if s in text]
    return [text[: min(places)]] if places else []


def _begun(text: str, stop: Sequence[str]) -> int:
    """How many characters at the end of a text may be the beginning of one of these."""
    return max((n for s in stop for n in range(1, len(s)) if text.endswith(s[:n])), default=0)
