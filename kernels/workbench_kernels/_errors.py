"""The one error of this package, and the checks that raise it."""

from __future__ import annotations

from typing import Any

import numpy as np


class KernelError(ValueError):
    """An argument that a kernel cannot take: the message names it, what came and what would be right."""


def check_array(name: str, value: Any, dtype: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return ``value`` if it is a C-contiguous array of this dtype and shape (None: any length).

    Raises
    ------
    KernelError
        Naming the argument, what came and what was wanted.

    Examples
    --------
    >>> check_array("x", np.zeros((2, 3), np.float32), np.float32, (None, 3)).shape
    (2, 3)
    """
    if not isinstance(value, np.ndarray):
        raise KernelError(f"{name} is a {type(value).__name__}: pass a numpy array")
    wanted = np.dtype(dtype)
    if value.dtype != wanted:
        raise KernelError(f"{name} has dtype {value.dtype}: pass {wanted}, e.g. {name}.astype(np.{wanted})")
    fits = value.ndim == len(shape) and all(w is None or w == n for w, n in zip(shape, value.shape, strict=True))
    if not fits:
        want = ", ".join("any" if n is None else str(n) for n in shape)
        raise KernelError(f"{name} has shape {value.shape}: pass [{want}]")
    if not value.flags.c_contiguous:
        raise KernelError(f"{name} is not contiguous: pass np.ascontiguousarray({name})")
    return value


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> Any:
    """Return ``value`` if it is one of ``choices``; raise `KernelError` otherwise."""
    if value not in choices:
        raise KernelError(f"{name}={value!r}: choose one of {', '.join(map(repr, choices))}")
    return value
