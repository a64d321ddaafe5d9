"""What every result shares: where it came from, one line, a dictionary, and a picture that needs no kernel.

A result is a frozen dataclass (``eq=False, repr=False``) that inherits `Result` and describes itself once, in
`Result._sections`; its text and its HTML are both made from that description, so they say the same.
"""

from __future__ import annotations

import dataclasses
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from workbench import render
from workbench.render import Section

_PACKAGES = ("torch", "transformers", "numpy", "safetensors")


@dataclass(frozen=True, slots=True)
class Provenance:
    """What produced a figure: versions, machine, threads, seed, method.

    Attributes
    ----------
    python : str
    versions : mapping of str to str
        Of the packages that the numbers depend on.
    machine : str
        Processor, operating system.
    cores, torch_threads : int
    seed : int or None
    method : str
        ``repr`` of the method, empty where there is none.
    """

    python: str
    versions: Mapping[str, str]
    machine: str
    cores: int
    torch_threads: int
    seed: int | None = None
    method: str = ""

    @classmethod
    def here(cls, *, seed: int | None = None, method: object = "") -> Provenance:
        """The provenance of a result made now, by this process."""
        import torch

        name = method if isinstance(method, str) else repr(method)
        threads = torch.get_num_threads()
        return cls(platform.python_version(), _versions(), _machine(), _cores(), threads, seed, name)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {f.name: json_ready(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def __str__(self) -> str:
        packages = ", ".join(f"{k} {v}" for k, v in self.versions.items())
        return f"{self.machine}, {self.torch_threads} of {self.cores} cores; Python {self.python}, {packages}"


class Result:
    """Mixin of every result: `to_dict`, a one-line ``repr``, and text with static HTML in a notebook.

    Subclasses are dataclasses with ``repr=False``; they override `_headline` and `_sections`.
    """

    __slots__ = ()

    def _headline(self) -> str:
        """The result in one line."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        plain = [(f.name, getattr(self, f.name)) for f in fields if f.repr]
        shown = [f"{k}={_brief(v)}" for k, v in plain if isinstance(v, str | int | float)]
        return f"{type(self).__name__}({', '.join(shown)})"

    def _sections(self) -> tuple[Section, ...]:
        """The result in full: what text and HTML are both made from."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        rows = [(f.name.replace("_", " "), getattr(self, f.name)) for f in fields]
        return (render.section("Figures", [r for r in rows if isinstance(r[1], str | int | float)]),)

    def __repr__(self) -> str:
        return self._headline()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return render.bundle(*render.join(self._headline(), self._sections()))

    def to_text(self) -> str:
        """The whole result as text."""
        return self._repr_mimebundle_()["text/plain"]

    def to_html(self) -> str:
        """The whole result as static HTML."""
        return self._repr_mimebundle_()["text/html"]

    def to_dict(self) -> dict[str, Any]:
        """Every field, ready for JSON: arrays as lists, numbers that are not finite as None."""
        return {f.name: json_ready(getattr(self, f.name)) for f in dataclasses.fields(self)}  # type: ignore[arg-type]


def json_ready(value: Any) -> Any:
    """Turn a value into what JSON can hold; non-finite numbers become None.

    Examples
    --------
    >>> json_ready({"a": np.float32(0.5), 1: (np.arange(2), float("nan"))})
    {'a': 0.5, '1': [[0, 1], None]}
    """
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    elif isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(k): json_ready(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        value = sorted(value)
    if isinstance(value, list | tuple):
        return [json_ready(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float) or value is None else str(value)


def _brief(value: Any) -> str:
    return repr(value) if isinstance(value, str | bool) else render.number(value)


@lru_cache(maxsize=1)
def _versions() -> Mapping[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return MappingProxyType(found)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)
def _machine() -> str:
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [x.partition(":")[2].strip() for x in info.read_text().splitlines() if x.startswith("model name")]
        name = models[0] if models else name
    return f"{name}, {platform.system()} {platform.machine()}"
