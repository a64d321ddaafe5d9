"""What a text must be: asked token by token, so that most of the vocabulary is never looked at.

    constraint.allows(token)   may the text go on so?          constraint.complete()   may it end here?
    constraint.take(token)     it does                         constraint.copy()       for another continuation

Grammars (regular expressions, JSON schemas) are checked by llguidance; any function of the text serves as well.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Self

from workbench.errors import ArgumentError


class Constraint(ABC):
    """A set of texts, and how far into it a text has come."""

    @abstractmethod
    def allows(self, token: int) -> bool:
        """Whether some allowed text goes on with this token."""

    @abstractmethod
    def take(self, token: int) -> None:
        """Go on with a token that is allowed."""

    @abstractmethod
    def complete(self) -> bool:
        """Whether the text may end here."""

    @abstractmethod
    def copy(self) -> Self:
        """An independent one in the same state."""

    def over(self) -> bool:
        """Whether nothing but the end may follow."""
        return False

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Grammar(Constraint):
    """Texts of a grammar, by llguidance.

    Parameters
    ----------
    grammar
        What ``llguidance.LLMatcher.grammar_from_regex`` or ``grammar_from_json_schema`` returned.
    tokenizer
        Of the model.
    vocabulary
        Tokens that the model knows.

    Raises
    ------
    ArgumentError
        If llguidance refuses the grammar; the message has its reason.
    """

    def __init__(self, grammar: str, tokenizer: Any, vocabulary: int) -> None:
        from llguidance import LLMatcher

        if tokenizer is None:
            raise ArgumentError("grammars need the model's tokenizer, and this model has none: pass constraint=")
        self._matcher = LLMatcher(_tokens_of(tokenizer, vocabulary), grammar)
        if self._matcher.is_error():
            raise ArgumentError(f"the grammar is refused: {self._matcher.get_error().strip()}")

    def allows(self, token: int) -> bool:
        """Whether the matcher would take it."""
        return bool(self._matcher.validate_tokens([token]) == 1)

    def take(self, token: int) -> None:
        """Go on."""
        if not self._matcher.consume_token(token):
            raise ArgumentError(f"token={token} is not allowed here")

    def complete(self) -> bool:
        """Whether what was taken is a text of the grammar."""
        return bool(self._matcher.is_accepting())

    def over(self) -> bool:
        """Whether the text cannot go on."""
        return bool(self._matcher.is_stopped())

    def copy(self) -> Self:
        """The same state again."""
        other = object.__new__(type(self))
        other._matcher = self._matcher.deep_copy()
        return other


class Texts(Constraint):
    """Texts by a function that knows all beginnings: for constraints of one's own.

    Parameters
    ----------
    beginning
        Whether some allowed text begins with this one.
    whole
        Whether this one is allowed as it is.
    piece
        Text of a token.
    """

    def __init__(
        self, beginning: Callable[[str], bool], whole: Callable[[str], bool], piece: Callable[[int], str]
    ) -> None:
        self._beginning, self._whole, self._piece, self._text = beginning, whole, piece, ""

    def allows(self, token: int) -> bool:
        """Ask ``beginning``."""
        return self._beginning(self._text + self._piece(token))

    def take(self, token: int) -> None:
        """Append its text."""
        self._text += self._piece(token)

    def complete(self) -> bool:
        """Ask ``whole``."""
        return self._whole(self._text)

    def copy(self) -> Self:
        """With the same text."""
        other = type(self)(self._beginning, self._whole, self._piece)
        other._text = self._text
        return other


def regex(pattern: str, tokenizer: Any, vocabulary: int) -> Grammar:
    """Texts that a regular expression matches from end to end."""
    from llguidance import LLMatcher

    return Grammar(LLMatcher.grammar_from_regex(pattern), tokenizer, vocabulary)


def json_schema(schema: str | Mapping[str, Any], tokenizer: Any, vocabulary: int) -> Grammar:
    """JSON texts of a schema, without white space between their parts but where the schema's texts have it.

    Raises
    ------
    ArgumentError
        If the schema is no JSON, or uses what llguidance does not know.
    """
    from llguidance import LLMatcher

    try:
        text = schema if isinstance(schema, str) else json.dumps(schema)
        json.loads(text)
        grammar = LLMatcher.grammar_from_json_schema(text, {"whitespace_flexible": False})
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"schema={schema!r} is no JSON schema: {error}") from error
    return Grammar(grammar, tokenizer, vocabulary)


@lru_cache(maxsize=4)
def _tokens_of(tokenizer: Any, vocabulary: int) -> Any:
    """Llguidance's view of a tokenizer, which takes a moment to build."""
    from llguidance.hf import from_tokenizer

    try:
        return from_tokenizer(tokenizer, n_vocab=vocabulary)
    except ValueError as error:
        raise ArgumentError(f"llguidance cannot read the model's tokenizer ({error}): pass constraint=") from error
