"""Monitor-guided decoding: after a dot only names that the object has, by static analysis of the code so far.

Lakshya A Agrawal, Aditya Kanade, Navin Goyal, Shuvendu K. Lahiri, Sriram K. Rajamani. Monitor-Guided Decoding of Code
LMs with Static Analysis of Repository Context. NeurIPS 2023. arXiv:2306.10763.

    at ".":  names = what jedi completes there;  until a character ends the name, it must begin one of them

jedi reads the code and runs nothing. Where it knows no name, anything goes.
Departs from the paper: its monitor wakes when a token ends with a dot, this one reads characters, so that it also sees
a name that comes in one token with its dot; Python and jedi stand for Java and a language server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Self

from workbench._citation import Citation
from workbench.claims import Claim
from workbench.decode._method import Decoder, decoder
from workbench.decode.claims import Paired
from workbench.decode.constrained._constraint import Constraint
from workbench.decode.constrained.awrs import record, step
from workbench.decode.constrained.checks import CODES, names_exist
from workbench.decode.run import Run


@decoder
@dataclass(frozen=True)
class Monitor(Decoder):
    """Python names that exist.

    Attributes
    ----------
    before
        Code that stands before the prompt for the analysis only, such as imports.
    """

    name: ClassVar[str] = "monitor"
    title: ClassVar[str] = "Monitor-guided decoding of Python"
    family: ClassVar[str] = "constrained"
    formula: ClassVar[str] = "after a dot: p restricted to beginnings of the names that jedi completes, renormalised"
    citation: ClassVar[Citation] = Citation(
        "Lakshya A Agrawal, Aditya Kanade, Navin Goyal, Shuvendu K. Lahiri, Sriram K. Rajamani",
        "Monitor-Guided Decoding of Code LMs with Static Analysis of Repository Context",
        2023,
        "2306.10763",
        "NeurIPS",
    )

    claim: ClassVar[Any] = Claim(
        "Completions name what exists more often than free ones.",
        "SantaCoder-1.1B and others on Java: 19 to 25 % more completions compile",
        Paired(
            quantity="share of names that exist, against free completions",
            figures=names_exist,
            difference=True,
            at_least=0.01,
            tasks=CODES,
        ),
    )

    before: str = field(default="")

    def decode(self, run: Run) -> None:
        """Token by token; the constraint sleeps outside of names behind dots."""
        names = PythonNames(self.before + run.decoded(run.prompt), run.piece)
        logits = run.prefill().logits[-1]
        while not run.done:
            drawn = step(run, names, logits)
            refused = len(drawn.tried) > 1 and drawn.tried[0][0] != drawn.token
            row = record(run, drawn, run.emitted, -1) if refused else -1
            if drawn.token < 0:
                run.finished = "no allowed token"
                return
            if not run.emit(drawn.token, row, logits=logits):
                return
            names.take(drawn.token)
            run.trace.step += 1
            logits = run.forward([drawn.token]).logits[-1]
            run.trace.add("verify", value=1, position=len(run.tokens))


class PythonNames(Constraint):
    """Python code in which every name behind a dot is one that static analysis finds there.

    Parameters
    ----------
    code
        What stands before.
    piece
        Text of a token.
    """

    def __init__(self, code: str, piece: Callable[[int], str]) -> None:
        self._piece = piece
        self._state: tuple[str, tuple[str, ...] | None, str] = _read((code, None, ""), "") or (code, None, "")
        if code.rstrip(" ").endswith("."):
            self._state = code, _names(code), ""

    def allows(self, token: int) -> bool:
        """Whether the text of a token keeps to the names."""
        return _read(self._state, self._piece(token)) is not None

    def take(self, token: int) -> None:
        """Read a token's text."""
        self._state = _read(self._state, self._piece(token)) or self._state

    def complete(self) -> bool:
        """Not in the middle of a name, nor right behind a dot whose names are known."""
        _, names, typed = self._state
        return not names or typed in names

    def copy(self) -> Self:
        """The same state again."""
        other = type(self)("", self._piece)
        other._state = self._state
        return other


def _read(state: tuple[str, tuple[str, ...] | None, str], text: str) -> tuple[str, tuple[str, ...] | None, str] | None:
    """The state after more text: code, names that are possible (None: not behind a dot), and what of one is typed.

    None if the text names what is not there.
    """
    code, names, typed = state
    for character in text:
        if names:
            if character.isidentifier() or (typed and character.isdigit()):
                typed += character
                if not any(name.startswith(typed) for name in names):
                    return None
            elif typed not in names:
                return None
            else:
                names, typed = None, ""
        else:
            names, typed = None, ""
        code += character
        if names is None and character == "." and _is_access(code):
            names = _names(code) or None
    return code, names, typed


def _is_access(code: str) -> bool:
    """Whether the dot at the end asks an object for an attribute: no number, no text, no comment."""
    line = code[:-1].rsplit("\n", 1)[-1]
    if not line or not (line[-1].isalnum() or line[-1] in "_)]}\"'"):
        return False
    word = line.replace("_", "a").rsplit(" ", 1)[-1]
    digits = len(word) - len(word.rstrip("0123456789"))
    if digits and (digits == len(word) or not word[-digits - 1].isalpha()):
        return False
    inside = "#" in line or line.lstrip().startswith(("import ", "from "))
    return not inside and line.count('"') % 2 == 0 and line.count("'") % 2 == 0


@lru_cache(maxsize=256)
def _names(code: str) -> tuple[str, ...]:
    """What may follow the dot at the end; empty if nothing is known."""
    import jedi

    lines = code.rstrip(" ").split("\n")
    found = jedi.Script(code.rstrip(" ")).complete(len(lines), len(lines[-1]))
    return tuple(sorted({completion.name for completion in found}))
