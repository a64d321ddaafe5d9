"""llama.cpp as a peer to measure against, where the package ``llama-cpp-python`` is installed. Never a dependency.

Its F32, BF16 and Q8_0 files of the default model are made from the file that the default model itself came from.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from workbench.weights import GGUF_MEMBER, cache_dir, default_model_dir

TYPES = {"F32": 0, "BF16": 32, "Q8_0": 7}  # llama_ftype


def available() -> bool:
    """Whether the package can be imported."""
    return importlib.util.find_spec("llama_cpp") is not None


def model_file(kind: str) -> Path | None:
    """The default model in one of `TYPES`, made if it is not there; None if its source is not there."""
    import llama_cpp

    default_model_dir()
    source = cache_dir() / "gguf" / Path(GGUF_MEMBER).name
    target = cache_dir() / "gguf" / f"default.{kind}.gguf"
    if target.is_file():
        return target
    if not source.is_file():
        return None
    part = target.with_suffix(f".{os.getpid()}.part")
    with _quiet():
        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.ftype, parameters.allow_requantize, parameters.nthread = TYPES[kind], True, os.cpu_count() or 1
        failed = llama_cpp.llama_model_quantize(str(source).encode(), str(part).encode(), ctypes.byref(parameters))
    if failed:
        part.unlink(missing_ok=True)
        return None
    part.replace(target)
    return target


class Llama:
    """One file of the default model in llama.cpp, with its own cache."""

    def __init__(self, path: Path, threads: int, context: int) -> None:
        import llama_cpp

        with _quiet():
            self._model: Any = llama_cpp.Llama(
                str(path), n_ctx=context, n_threads=threads, n_threads_batch=threads, n_batch=512, verbose=False
            )

    def forward(self, ids: np.ndarray) -> None:
        """Append tokens."""
        self._model.eval(ids.tolist())

    def reset(self) -> None:
        """Forget all tokens."""
        self._model.reset()


@contextmanager
def _quiet() -> Iterator[None]:
    """llama.cpp reports on the process's own standard error; not here."""
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
