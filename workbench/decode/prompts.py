"""Short prompts of our own, by kind, on which ways of decoding are compared.

    copy: repeat, echo, summary, edit, extract            the answer says again what stands in the prompt
    free: story, explanation, answer, tips, arithmetic    it does not

How much drafting gains hangs on the text more than on anything else, so that every figure names its kinds. Prompts
marked ``chat`` go through the chat template of the model, as an instruction; the others are text to be continued.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.errors import ArgumentError, unknown

GROUPS = {
    "copy": ("repeat", "echo", "summary", "edit", "extract"),
    "free": ("story", "explanation", "answer", "tips", "arithmetic"),
}
KINDS = (*GROUPS["copy"], *GROUPS["free"])


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt.

    Attributes
    ----------
    name
        Its kind and a number.
    kind
        One of `KINDS`.
    text
        The instruction, or the text to continue.
    chat
        Whether it is an instruction.
    """

    name: str
    kind: str
    text: str
    chat: bool

    @property
    def group(self) -> str:
        """``"copy"`` or ``"free"``."""
        return next(group for group, kinds in GROUPS.items() if self.kind in kinds)

    def ids(self, tokenizer: Any) -> list[int]:
        """Its tokens for a model: instructions in the chat template, if the tokenizer has one.

        Raises
        ------
        ArgumentError
            If there is no tokenizer.
        """
        if not self.chat:
            if tokenizer is None:
                raise ArgumentError("the model has no tokenizer: these prompts are texts; give token ids of your own")
            return list(tokenizer(self.text)["input_ids"])
        return chat_ids(tokenizer, self.text)


def chat_ids(tokenizer: Any, text: str) -> list[int]:
    """An instruction as tokens, in the chat template where the tokenizer has one.

    Raises
    ------
    ArgumentError
        If there is no tokenizer.
    """
    if tokenizer is None:
        raise ArgumentError("the model has no tokenizer: a text cannot be put into a chat; give token ids")
    if not getattr(tokenizer, "chat_template", None):
        return list(tokenizer(text)["input_ids"])
    messages = [{"role": "user", "content": text}]
    options = {"tokenize": True, "add_generation_prompt": True, "return_dict": True}
    return list(tokenizer.apply_chat_template(messages, **options)["input_ids"])


def prompts(*kinds: str, chat: bool | None = None) -> tuple[Prompt, ...]:
    """All prompts, or those of some kinds.

    Parameters
    ----------
    kinds
        Of `KINDS`, or ``"copy"``, ``"free"``.
    chat
        Only instructions, or only texts to continue; None for both.

    Raises
    ------
    ArgumentError
        If a kind is unknown.

    Examples
    --------
    >>> [p.name for p in prompts("repeat", "story")]
    ['repeat-1', 'repeat-2', 'story-1', 'story-2']
    >>> len(prompts()), len(prompts("copy")), len(prompts("free", chat=False))
    (20, 10, 3)
    """
    wanted: list[str] = []
    for kind in kinds or KINDS:
        if kind not in KINDS and kind not in GROUPS:
            raise unknown("kind of prompt", kind, (*GROUPS, *KINDS))
        wanted += GROUPS.get(kind, (kind,))
    return tuple(p for p in _PROMPTS if p.kind in wanted and chat in (None, p.chat))


_MILLER = (
    "The miller kept two cats, one grey and one white. The grey cat slept on the sacks of flour, and the white cat sat "
    "by the door and watched the road. When the wheel began to turn, both cats went down to the river to look for fish."
)
_MARKET = (
    "The market opens at seven on Saturdays. Farmers from the valley bring apples, pears, eggs and honey. The baker "
    "sells bread and plum cake. At noon a band plays by the fountain, and at two the stalls are taken down."
)
_CODE = """\
def total(prices, discount):
    result = 0
    for price in prices:
        if price > 0:
            result = result + price
    result = result - discount
    return result
"""
_LIST = "1. red lamp\n2. blue chair\n3. green table\n4. yellow clock\n5. white shelf\n6. black kettle\n"
_LOG = """\
2026-03-01 08:00 pump started, pressure 2.1 bar
2026-03-01 08:05 pump running, pressure 2.4 bar
2026-03-01 08:10 pump running, pressure 2.4 bar
2026-03-01 08:15 pump running, pressure"""

_TEXTS: tuple[tuple[str, bool, str], ...] = (
    ("repeat", True, f"Repeat this text word for word and add nothing:\n\n{_MILLER}"),
    ("repeat", True, f"Copy the following list exactly, with all its lines:\n\n{_LIST}"),
    ("echo", False, f"First copy:\n{_LIST}\nSecond copy:\n1."),
    ("echo", False, _LOG),
    ("summary", True, f"Summarise this text in two sentences, in its own words:\n\n{_MARKET}"),
    ("summary", True, f"Which animals does this text speak of, and what do they do?\n\n{_MILLER}"),
    ("edit", True, f"Rename the variable `result` to `amount` in this code and print all of the code:\n\n{_CODE}"),
    (
        "edit",
        False,
        f"# before\n{_CODE}\n# after: a negative discount counts as 0\ndef total(",
    ),
    ("extract", True, f"List every thing that is sold, one per line, as the text names it:\n\n{_MARKET}"),
    ("extract", False, f"{_MARKET}\n\nQuestion: When does the market open?\nAnswer: The market opens at"),
    ("story", True, "Write a short story about a lighthouse keeper who finds a letter in a bottle."),
    ("story", False, "The old clock in the tower had stood still for thirty years. One night in November"),
    ("explanation", True, "Explain to a child why the sky is blue."),
    ("explanation", False, "A bicycle stays upright while it moves because"),
    ("answer", True, "What is the capital of Italy, and what is it known for?"),
    ("answer", True, "How does bread dough rise?"),
    ("tips", True, "Give five tips for growing tomatoes on a balcony."),
    ("tips", True, "How can I sleep better? Give me a list of things to try."),
    ("arithmetic", True, "Anna has 12 apples. She gives 5 to Ben and buys 8 more. How many does she have?"),
    ("arithmetic", False, "17 + 25 = 42\n36 + 18 = 54\n29 + 44 ="),
)


def _numbered() -> tuple[Prompt, ...]:
    counts: dict[str, int] = {}
    found = []
    for kind, chat, text in _TEXTS:
        counts[kind] = counts.get(kind, 0) + 1
        found.append(Prompt(f"{kind}-{counts[kind]}", kind, text, chat))
    return tuple(found)


_PROMPTS = _numbered()
