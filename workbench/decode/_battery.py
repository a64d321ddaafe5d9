"""One battery for every way of decoding; public as `workbench.testing.check_decoder`.

repeats     same seed, same tokens           stops     limit, stop text, stop token, a full context, cancel
untouched   model, hooks, cache              record    events in order, of the right parents, counted right
replays     saved, loaded, shown, no model   promise   greedy tokens on both runtimes, or the distribution
refuses     unknown and impossible hyper-parameters
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from workbench.decode._exact import g_test_passes, sampled_fit
from workbench.decode._method import Decoder, registry, resolve
from workbench.decode._record import check_record, state_of
from workbench.decode.generation import Generation, generate
from workbench.decode.sampling import Sampler
from workbench.decode.trace import Trace
from workbench.errors import ArgumentError, Cancelled, WorkbenchError
from workbench.execute.compiled import compile  # noqa: A004
from workbench.jobs import Progress, Step
from workbench.models import LM, wrap

VOCABULARY, TOKENS = 97, 12
PROMPTS = (
    (5, 9, 13, 5, 9, 13, 40, 5, 9),
    tuple(np.random.default_rng(1).integers(3, VOCABULARY, 7).tolist()),
    (60, 61, 62, 63, 60, 61, 62, 63, 60, 61),
)


@dataclass(frozen=True)
class Case:
    """A method, on a model: a handle, or a target of the method's own kind."""

    method: Decoder
    model: Any

    @property
    def strict(self) -> bool:
        """Whether an answer that has to end earlier is the beginning of the longer one."""
        return self.method.promises != "lossy" or self.method.family in ("speculative", "depth")

    @property
    def tokenizer(self) -> Any:
        """The model's, or None."""
        return self.model.tokenizer

    @property
    def temperature(self) -> float:
        """One at which it draws, if it does."""
        try:
            return self.method.sampler(Sampler(0.8)).temperature
        except ArgumentError:
            return 0.0

    @property
    def prompts(self) -> tuple[tuple[int, ...], ...]:
        """The method's own, or the usual ones."""
        own = tuple(tuple(map(int, prompt)) for prompt in type(self.method).example_prompts(self.model))
        return own or PROMPTS

    def generate(self, prompt: Sequence[int] = (), model: Any = None, **options: Any) -> Generation:
        """An answer, to the first prompt by default."""
        given = {"max_new_tokens": TOKENS, "detail": False, **options}
        prompt = prompt or self.prompts[0]
        return generate(self.model if model is None else model, prompt, self.method, **given)

    def require(self, held: bool, broken: str) -> None:
        """Raise if a rule is broken."""
        from workbench.testing import CheckFailed

        if not held:
            raise CheckFailed(f"{self.method.name}: {broken}")


def check_decoder(method: str | Decoder, lm: LM | None = None, *, samples: int = 600, **parameters: Any) -> None:
    """Hold a way of decoding to the rules that every one keeps.

    Parameters
    ----------
    method
        A registered name, with its hyper-parameters as further arguments; or a `Decoder`. A name without
        hyper-parameters takes those of its ``example_parameters``.
    lm
        A model handle; by default a tiny random Llama with a tokenizer of characters.
    samples
        Texts to draw for the test of the distribution.

    Raises
    ------
    CheckFailed
        Naming the rule that was broken.

    Examples
    --------
    >>> check_decoder("greedy")
    """
    lm = lm or _usual()
    if isinstance(method, str) and not parameters:
        cls = registry().get(method)
        parameters = dict(cls.example_parameters(lm)) if cls else {}
    case = _case(resolve(method, parameters), lm)
    for rule in (_repeats, _limits, _stop_text, _stop_token, _full_context, _cancels, _untouched, _records, _replays,
                 _keeps_greedy, _refuses):  # fmt: skip
        rule(case)
    if case.method.promises == "distribution" and samples:
        fit = sampled_fit(case.method, samples=samples)
        case.require(g_test_passes(fit), f"texts are not distributed as the model's: {fit}")


def _case(method: Decoder, lm: LM) -> Case:
    """On that model, or on the method's own where it needs one of another kind."""
    try:
        method.target(lm)
    except ArgumentError:
        return Case(method, method.target(None))
    return Case(method, lm)


def _usual() -> LM:
    from workbench.testing import tiny_lm, tiny_tokenizer

    return wrap(tiny_lm(head_dim=32).module, tiny_tokenizer(), "tiny-llama")


def _repeats(case: Case) -> None:
    for temperature in {case.temperature, 0.0 if _may_be_greedy(case) else case.temperature}:
        options: dict[str, Any] = {"temperature": temperature, "seed": 3}
        first, again = (case.generate(**options) for _ in range(2))
        case.require(np.array_equal(first.tokens, again.tokens), "same seed, other tokens")
        same = all(
            np.array_equal(first.trace.columns[c], again.trace.columns[c], equal_nan=c != "kind")
            for c in first.trace.columns
            if c != "seconds"
        )
        case.require(same, "same seed, another trace")


def _may_be_greedy(case: Case) -> bool:
    try:
        case.method.sampler(Sampler())
    except ArgumentError:
        return False
    return True


def _limits(case: Case) -> None:
    for limit in (1, 2, 5):
        found = case.generate(max_new_tokens=limit)
        case.require(len(found.tokens) <= limit, f"{len(found.tokens)} tokens where at most {limit} were asked for")
        if case.strict:
            whole = len(found.tokens) == limit or found.finished not in ("limit", "end")
            case.require(whole, f"{len(found.tokens)} of {limit} tokens, and it says {found.finished!r}")


def _stop_text(case: Case) -> None:
    if case.tokenizer is None:
        return
    pieces: list[str] = []
    whole = case.generate(stream=pieces.append)
    case.require("".join(pieces) == whole.text, f"streamed {''.join(pieces)!r}, answered {whole.text!r}")
    if len(whole.text) < 4:
        return
    stop = whole.text[2:4]
    found = case.generate(stop=stop)
    case.require(stop not in found.text, f"the answer goes on behind the stop text {stop!r}: {found.text!r}")
    if case.strict:
        wanted = whole.text[: whole.text.index(stop)]
        held = found.text == wanted and found.finished == "stop text"
        case.require(held, f"stopped by {stop!r}: {found.text!r} ({found.finished}), wanted {wanted!r}")


def _stop_token(case: Case) -> None:
    free = case.generate()
    if len(free.tokens) < 3:
        return
    token, target = int(free.tokens[2]), case.method.target(case.model)
    before, target.end_tokens = target.end_tokens, frozenset({token})
    try:
        found = case.generate(model=target)
    finally:
        target.end_tokens = before
    case.require(token not in found.tokens, "the token that ends an answer is in it")
    if case.strict:
        wanted = free.tokens[: free.tokens.tolist().index(token)]
        held = np.array_equal(found.tokens, wanted) and found.finished == "stop token"
        case.require(held, f"ended by a token: {found.tokens.tolist()} ({found.finished}), wanted {wanted.tolist()}")


def _full_context(case: Case) -> None:
    if type(case.method).example_prompts(case.model):
        return  # not every prompt will do
    context = case.method.target(case.model).context
    prompt = [*range(3, 13)] * (context // 10 + 1)
    found = case.generate(prompt[: context - 3], max_new_tokens=10)
    case.require(len(found.tokens) <= 4, f"{len(found.tokens)} tokens where the context has room for 3")


def _cancels(case: Case) -> None:
    wanted = case.generate().tokens
    for allowed in (0, 3):
        progress, heard = Progress(), [0]

        def listen(step: Step, progress: Progress = progress, heard: list[int] = heard, most: int = allowed) -> None:
            del step
            heard[0] += 1
            if heard[0] >= most:
                progress.cancel()

        progress.listener = listen
        if not allowed:
            progress.cancel()
        target = case.method.target(case.model)
        try:
            case.generate(model=target, progress=progress)
        except Cancelled:
            case.require(target.length == 0, "cancelled, and the cache still holds tokens")
        else:
            case.require(heard[0] <= allowed and allowed > 0, "it cannot be cancelled")
    case.require(np.array_equal(case.generate().tokens, wanted), "after a cancelled answer the next one differs")


def _untouched(case: Case) -> None:
    before, target = state_of(case.model), case.method.target(case.model)
    case.generate(model=target, temperature=case.temperature)
    after = state_of(case.model)
    case.require(before[:1] == after[:1], "the model was changed")
    case.require(before == after, "hooks stay in the model, or its mode is another")
    case.require(target.length == 0, f"the cache still holds {target.length} tokens")


def _records(case: Case) -> None:
    for detail in (True, False):
        for prompt in case.prompts[:2]:
            target = case.method.target(case.model)
            passes = target.forwards
            found = case.generate(prompt, target, detail=detail, temperature=case.temperature, seed=1)
            broken = check_record(found.trace, found.tokens, prompt, target.forwards - passes)
            case.require(not broken, "; ".join(broken))


def _replays(case: Case) -> None:
    trace = case.generate(detail=True).trace
    with tempfile.TemporaryDirectory() as folder:
        loaded = Trace.load(trace.save(Path(folder) / "trace.json"))
    for name, column in trace.columns.items():
        case.require(column.tobytes() == loaded.columns[name].tobytes(), f"column {name} changes when it is saved")
    case.require(loaded.to_dict() == trace.to_dict(), "a loaded trace is another")
    case.require(bool(loaded.to_text()) and "<" in loaded.to_html(), "a loaded trace cannot be shown")


def _keeps_greedy(case: Case) -> None:
    if case.method.promises == "lossy":
        return
    targets = [case.method.target(case.model)]
    try:
        compiled = case.method.target(compile(case.model, "dense", threads=1))
        case.generate(model=compiled, max_new_tokens=2)
        targets.append(compiled)
    except WorkbenchError:  # not every family, and not every method, runs there
        pass
    for target in targets:
        for prompt in case.prompts:
            wanted = generate(target, prompt, "greedy", max_new_tokens=2 * TOKENS, detail=False).tokens
            found = case.generate(prompt, target, max_new_tokens=2 * TOKENS).tokens
            said = f"on {type(target).__name__} it says {found.tolist()}, greedy decoding {wanted.tolist()}"
            case.require(np.array_equal(found, wanted), said)


def _refuses(case: Case) -> None:
    cls = type(case.method)
    given = {f.name: getattr(case.method, f.name) for f in fields(cls)}
    if registry().get(cls.name) is cls:
        _must_refuse(case, partial(resolve, cls.name, {"no_such_parameter": 1}), "no_such_parameter=1")
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        wrong = -(10**9) if isinstance(value, int) else math.nan
        _must_refuse(case, partial(cls, **{**given, name: wrong}), f"{name}={wrong}")


def _must_refuse(case: Case, make: Callable[[], Any], what: str) -> None:
    try:
        make()
    except ArgumentError as error:
        name = what.split("=", maxsplit=1)[0]
        case.require(name in str(error), f"the error about {what} does not name it: {error}")
        return
    case.require(False, f"it takes {what}; it must raise ArgumentError")
