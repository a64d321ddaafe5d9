"""What a way of decoding is, and the one dict that holds them.

A method is a frozen dataclass in a file of its own; its fields are the paper's hyper-parameters. `Decoder.decode` gets
a `Run` (target, prompt, sampler, random numbers, recorder, limits) and emits tokens until the run says it is over.
Methods that draft and verify derive `workbench.decode.speculative.Speculative` and only say how they draft.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from workbench._citation import Citation
from workbench._registry import Registry
from workbench.decode.sampling import Sampler
from workbench.decode.target import Target, as_target
from workbench.errors import unknown

if TYPE_CHECKING:
    from workbench.decode.run import Run

FAMILIES = ("baseline", "speculative", "depth", "constrained", "search", "diffusion")
PROMISES = ("greedy", "distribution", "lossy")


@dataclass(frozen=True)
class Decoder(ABC):
    """Base of every way of decoding.

    Attributes
    ----------
    name, title
        For menus: the registry's key and how people write it.
    family
        One of `FAMILIES`.
    promises
        What it keeps of plain decoding, of `PROMISES`: ``"greedy"``: at temperature 0 the very same tokens;
        ``"distribution"``: that, and above 0 the same distribution of texts. Empty: lossy.
    formula
        One line, in the symbols of the file's header.
    citation
        Its paper.
    claim
        The paper's headline claim and how it is checked here.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    family: ClassVar[str]
    promises: ClassVar[str] = "lossy"
    formula: ClassVar[str]
    citation: ClassVar[Citation | None] = None
    claim: ClassVar[Any] = None

    @abstractmethod
    def decode(self, run: Run) -> None:
        """Emit tokens through ``run`` until ``run.done``."""

    def target(self, model: Any) -> Target:
        """What it runs on, of the model that the user passed."""
        return as_target(model)

    def sampler(self, sampler: Sampler) -> Sampler:
        """The sampler that it uses, of the user's; raises `ArgumentError` if it cannot use that one."""
        return sampler

    @classmethod
    def example_parameters(cls, model: Any) -> Mapping[str, Any]:
        """Hyper-parameters with which it runs on any model, such as the tiny ones of tests.

        For methods that need more than their defaults there: a draft made of ``model``, untrained heads of its sizes.
        """
        del model
        return {}

    @classmethod
    def example_prompts(cls, model: Any) -> Sequence[Sequence[int]]:
        """Prompts, as token ids, that it can answer on ``model``; empty if any will do."""
        del model
        return ()

    @property
    def parameters(self) -> dict[str, Any]:
        """The hyper-parameters, ready for JSON; models by what they were loaded from."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


DECODERS: Registry[Decoder] = Registry(Decoder, "decoding method", ("name", "title", "family", "formula"))
registry, resolve = DECODERS.classes, DECODERS.resolve
D = TypeVar("D", bound=type[Decoder])


def decoder(cls: D) -> D:
    """Register a way of decoding under its name.

    Raises
    ------
    ArgumentError
        If the name is taken or something that every method must say is missing or unknown.
    """
    if getattr(cls, "family", FAMILIES[0]) not in FAMILIES:
        raise unknown("family", cls.family, FAMILIES)
    if cls.promises not in PROMISES:
        raise unknown("promise", cls.promises, PROMISES)
    return DECODERS.register(cls)


def decoders(family: str | None = None) -> tuple[type[Decoder], ...]:
    """All decoders, or those of a family, in the order of `FAMILIES`, then by name.

    Examples
    --------
    >>> [d.name for d in decoders("baseline")][:2]
    ['beam', 'diverse-beam']
    """
    if family is not None and family not in FAMILIES:
        raise unknown("family", family, FAMILIES)
    found = (d for d in DECODERS.values() if family in (None, d.family))
    return tuple(sorted(found, key=lambda d: (FAMILIES.index(d.family), d.name)))


def _plain(value: Any) -> Any:
    if isinstance(value, str | int | float | bool | type(None)):
        return value
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return getattr(value, "source", None) or repr(value)
