"""What the claims of this family measure: how likely constrained texts are, and whether names exist."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from workbench.decode.claims import DecodingContext


@dataclass(frozen=True, slots=True)
class Form:
    """A prompt whose answer has a form."""

    name: str
    prompt: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Code:
    """Python code that stops behind a dot, and the names that may follow."""

    name: str
    prompt: str


FORMS = (
    Form("moon", "The date of the first moon landing, as year-month-day: ", r"[0-9]{4}-[0-9]{2}-[0-9]{2}"),
    Form("colour", "The sky on a clear day is ", r"(blue|black|grey|green|yellow)"),
    Form("yes or no", "Is a whale a mammal? Answer: ", r"(yes|no|perhaps)"),
    Form("clock", "The train leaves at a quarter past eight in the morning, that is at ", r"[0-9]{2}:[0-9]{2}"),
    Form("list", "Three fruits, with commas: ", r"[a-z]+, [a-z]+, [a-z]+"),
    Form("price", "The book costs nine dollars and fifty cents: $", r"[0-9]+\.[0-9]{2}"),
    Form("name", "The author of Hamlet is ", r"[A-Z][a-z]+ [A-Z][a-z]+"),
    Form("sum", "12 + 30 = ", r"[0-9]{2}"),
)
CODES = (
    Code("math", "import math\n\ndef area(radius):\n    return math."),
    Code("text", 'name = "Ada"\nprint(name.'),
    Code("list", "numbers = [3, 1, 2]\nnumbers."),
    Code("mapping", 'ages = {"Ada": 36}\nfor name in ages.'),
    Code("path", "from pathlib import Path\n\nfolder = Path('data')\nif folder."),
    Code("random", "import random\n\nvalue = random."),
    Code("os", "import os\n\nprint(os."),
    Code("date", "from datetime import date\n\ntoday = date."),
    Code("json", "import json\n\nwith open('a.json') as file:\n    data = json."),
    Code("set", "seen = set()\nseen."),
)


def likelier(context: DecodingContext, _name: str, item: Form, seed: int) -> tuple[float, float]:
    """Log-probability of a text by AWRS with 8 particles, and of a masked one, both at temperature 1."""
    return _log_p(context, "awrs", item, seed, particles=8), _log_p(context, "masked", item, seed)


def names_exist(context: DecodingContext, _name: str, item: Code, seed: int) -> tuple[float, float]:
    """Whether the name behind the dot exists, monitored and free, both at temperature 1."""
    return _exists(context, "monitor", item, seed), _exists(context, "greedy", item, seed)


def _log_p(context: DecodingContext, method: str, item: Form, seed: int, **parameters: int) -> float:
    from workbench.decode._method import resolve

    chosen = resolve(method, {"pattern": item.pattern, **parameters})
    done = context.generate(chosen, item.prompt, seed, temperature=1.0, max_new_tokens=24, detail=True)
    return float(np.sum(done.trace.log_p[done.trace.rows("emit")]))


def _exists(context: DecodingContext, method: str, item: Code, seed: int) -> float:
    from workbench.decode.constrained.monitor import _names

    done = context.generate(method, item.prompt, seed, temperature=1.0, max_new_tokens=8)
    said = re.match(r"\w*", done.text)
    return float(said is not None and said.group() in _names(item.prompt))
