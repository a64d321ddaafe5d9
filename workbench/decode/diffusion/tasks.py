"""List tasks whose right answers are known: a waiting line that is copied, reversed, sorted, shuffled or changed.

Kang et al., "ParallelBench: Understanding the Trade-offs of Parallel Decoding in Diffusion LLMs", 2025, arXiv
2510.04767, ask these ten operations of large models. Here they are made anew over 24 names, as short sequences that a
tiny model learns:

    reverse : Ada Ben Cleo ->           Cleo Ben Ada [end]
    insert 2 Zoe : Ada Ben ->           Ada Zoe Ben [end]         the place is given
    insert Zoe : Ada Ben ->             Zoe Ada Ben, Ada Zoe Ben or Ada Ben Zoe: all three are right

With a list of n names (m places in the answer), independent unmasking of all places at once is right with the chance
`independent_accuracy`: the sum over right answers y of prod_i p_i(y_i), p_i the share of right answers that have y_i
at i. It is 1 where one answer is right, n!/n^n for shuffle, (1 - 1/n)^(n-1) for replacing at a random place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np

from workbench.errors import ArgumentError, unknown

PAD, MASK, END = 0, 1, 2
NAMES = (
    "Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana", "Ivo", "Jack", "Kim", "Leo",
    "Mia", "Ned", "Olga", "Pia", "Quin", "Rosa", "Sam", "Tess", "Uma", "Vic", "Wen", "Zoe",
)  # fmt: skip
VERBS = ("copy", "reverse", "sort", "shuffle", "replace", "insert", "remove")
TASKS = (
    "copy", "reverse", "sort", "shuffle", "replace-index", "replace-random", "insert-index", "insert-random",
    "remove-index", "remove-random",
)  # fmt: skip
SHORTEST, LONGEST = 3, 8  # names of a list
NUMBERS = tuple(str(n) for n in range(1, LONGEST + 2))
WORDS = ("[pad]", "[mask]", "[end]", ":", "->", *VERBS, *NUMBERS, *NAMES)
PROMPT, ANSWER = LONGEST + 5, LONGEST + 2  # tokens at most: verb, place, name, colon, list, arrow; list, one more, end
_ID = {word: n for n, word in enumerate(WORDS)}


class Words:
    """The tokenizer: one token per word; commas are ignored and the arrow at the end may be left out."""

    eos_token_id = END
    mask_token_id = MASK
    pad_token_id = PAD

    def __len__(self) -> int:
        return len(WORDS)

    def __call__(self, text: str) -> dict[str, list[int]]:
        """Ids of a question, under ``"input_ids"``.

        Raises
        ------
        ArgumentError
            If a word is not in the vocabulary, or they ask none of `TASKS`.
        """
        words = re.findall(r"\[\w+\]|->|:|[^\s,:]+", text)
        for word in words:
            if word not in _ID:
                raise ArgumentError(
                    f"prompt has the word {word!r}, which this model of list tasks does not know: write for example "
                    f"'reverse : Ada Ben Cleo ->', with one of {', '.join(VERBS)}, and of the names {NAMES[0]} to "
                    f"{NAMES[-1]} (workbench.decode.diffusion.tasks.NAMES)"
                )
        if words and words[-1] in NAMES:
            words.append("->")
        return {"input_ids": list(read([_ID[word] for word in words]).prompt)}

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Words with spaces between them."""
        kept = [int(t) for t in ids if not (skip_special_tokens and t in (PAD, MASK, END))]
        return " ".join(WORDS[t] for t in kept)


@dataclass(frozen=True, slots=True)
class ListTask:
    """One question.

    Attributes
    ----------
    name
        One of `TASKS`.
    line
        The list, as token ids.
    person
        Who replaces somebody or comes in, as a token id; -1 where nobody does.
    place
        At which index from 0; -1 where there is none, or where it is up to the answer.
    """

    name: str
    line: tuple[int, ...]
    person: int = -1
    place: int = -1

    @property
    def prompt(self) -> tuple[int, ...]:
        """The question as token ids."""
        head = [_ID[self.name.partition("-")[0]]]
        head += [_ID[str(self.place + 1)]] if self.place >= 0 else []
        head += [self.person] if self.person >= 0 else []
        return (*head, _ID[":"], *self.line, _ID["->"])

    @property
    def text(self) -> str:
        """The question in words."""
        return Words().decode(self.prompt)

    @property
    def length(self) -> int:
        """Names in every right answer."""
        return len(self.line) + self.name.startswith("insert") - self.name.startswith("remove")

    def right(self, answer: Sequence[int]) -> bool:
        """Whether an answer, without its end, is one of the right ones."""
        given, line = tuple(int(t) for t in answer), self.line
        if self.name == "shuffle":
            return sorted(given) == sorted(line)
        return given in {tuple(a) for a in answers(self).tolist()}


@lru_cache(maxsize=256)
def answers(task: ListTask) -> np.ndarray:
    """All right answers, token ids int16 [answers, names], each once."""
    line, person = list(task.line), task.person
    places = [task.place] if task.place >= 0 else list(range(len(line) + (task.name == "insert-random")))
    verb = task.name.partition("-")[0]
    if verb == "copy":
        found = [line]
    elif verb == "reverse":
        found = [line[::-1]]
    elif verb == "sort":
        found = [sorted(line)]
    elif verb == "shuffle":
        found = [list(p) for p in permutations(line)]
    elif verb == "replace":
        found = [[*line[:i], person, *line[i + 1 :]] for i in places]
    elif verb == "insert":
        found = [[*line[:i], person, *line[i:]] for i in places]
    else:
        found = [[*line[:i], *line[i + 1 :]] for i in places]
    return np.array(found, np.int16)


def sample(name: str, random: np.random.Generator, size: int | None = None) -> ListTask:
    """A task over names drawn without replacement.

    Parameters
    ----------
    size
        Names in the list; None draws from `SHORTEST` to `LONGEST`.

    Raises
    ------
    ArgumentError
        If the task is unknown or the size out of range.

    Examples
    --------
    >>> sample("insert-index", np.random.default_rng(0), 3).text
    'insert 2 Kim : Sam Eve Vic ->'
    """
    if name not in TASKS:
        raise unknown("list task", name, TASKS)
    size = int(random.integers(SHORTEST, LONGEST + 1)) if size is None else size
    if not 2 <= size <= LONGEST:
        raise ArgumentError(f"size={size}: from 2 to {LONGEST} names")
    drawn = [_ID[NAMES[i]] for i in random.permutation(len(NAMES))[: size + 1]]
    person = drawn[-1] if name.startswith(("replace", "insert")) else -1
    place = int(random.integers(size + name.startswith("insert"))) if name.endswith("index") else -1
    return ListTask(name, tuple(drawn[:-1]), person, place)


def read(prompt: Sequence[int]) -> ListTask:
    """The task that a prompt asks.

    Raises
    ------
    ArgumentError
        If it is none.
    """
    words = [WORDS[t] for t in prompt]
    number = rf"(?P<number>{'|'.join(NUMBERS)})"
    shape = rf"(?P<verb>{'|'.join(VERBS)})(?: {number})?(?: (?P<person>[A-Z]\w+))? :(?P<line>(?: [A-Z]\w+)+) ->"
    found = re.fullmatch(shape, " ".join(words))
    if not found:
        raise ArgumentError(f"prompt {' '.join(words)!r}: want a list task such as {'insert 2 Zoe : Ada Ben ->'!r}")
    verb, line = found["verb"], tuple(_ID[w] for w in found["line"].split())
    kind = "" if verb in VERBS[:4] else "-index" if found["number"] else "-random"
    person = _ID[found["person"]] if found["person"] else -1
    place = int(found["number"]) - 1 if found["number"] else -1
    task = ListTask(verb + kind, line, person, place)
    needs = (verb in ("replace", "insert"), kind == "-index")
    if (person >= 0, place >= 0) != needs or place >= len(line) + (verb == "insert"):
        raise ArgumentError(
            f"prompt {' '.join(words)!r}: {verb} takes other arguments, or the place is not in the list"
        )
    if len(line) > LONGEST:
        raise ArgumentError(f"prompt {' '.join(words)!r}: at most {LONGEST} names in the list")
    return task


def independent_accuracy(task: ListTask, each: int | None = None) -> float:
    """The chance that places drawn independently from the exact conditionals make a right answer.

    Parameters
    ----------
    each
        Places unmasked per round, in random order, between which the conditionals are brought up to date; None for
        all at once. Given for ``shuffle`` and ``replace-random`` only, whose places are alike (1 for those with one
        right answer, whatever it is).

    Raises
    ------
    ArgumentError
        If there is no formula.

    Examples
    --------
    >>> round(independent_accuracy(sample("shuffle", np.random.default_rng(0), 4)), 4)      # 4! / 4^4
    0.0938
    """
    size = task.length
    if each is not None and each < 1:
        raise ArgumentError(f"each={each}: at least 1 place a round, or None for all")
    if each is None or each >= size:
        right = answers(task)
        shares = [{int(t): float(np.mean(c == t)) for t in np.unique(c)} for c in right.T]
        return float(sum(math.prod(s[int(t)] for s, t in zip(shares, y, strict=True)) for y in right))
    if task.name == "shuffle":
        return math.prod(math.perm(m, min(each, m)) / m ** min(each, m) for m in range(size, 0, -each))
    if task.name == "replace-random":
        return _one_replaced(size, each)
    if len(answers(task)) == 1:
        return 1.0
    raise ArgumentError(f"each={each} on {task.name}: its places are not alike, there is a formula for None only")


def _one_replaced(left: int, each: int) -> float:
    """The chance that exactly one of the places left, all alike, gets the new name: once it is in, all else is sure."""
    now = min(each, left)
    here = now * (1 / left) * (1 - 1 / left) ** (now - 1)
    return here + ((1 - 1 / left) ** now * _one_replaced(left - now, each) if left > now else 0.0)
