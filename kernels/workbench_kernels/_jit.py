"""Compiling: one decorator for kernels, one for steps of a compiled program, one cache on disk for both.

Numba's own cache looks only at the file that a function stands in, and two processes that fill it at once can mix
up their entries. Kernels call each other across files and are made by closures, so the cache here is keyed by the
text of the whole package, the processor, the bounds check and the function with all that it closes over; every
entry is a file of its own, written whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba
from numba.core import config
from numba.core.caching import Cache, CompileResultCacheImpl, _CacheLocator

from workbench_kernels import compiling
from workbench_kernels._cpu import features

OPTIONS = {"nogil": True, "error_model": "numpy"}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function when it is first called: without the GIL, without fastmath, cached on disk.

    What it closes over must be numbers or strings; other kernels are called by their global names.
    """
    compiled = numba.njit(**OPTIONS)(_named(function))
    if folder() is not None:
        compiled._cache = _DiskCache(function)
    return compiled


def inline(function: Callable[..., Any]) -> Any:
    """Compile a small function that only kernels call; it is part of them and has no cache of its own."""
    return numba.njit(**OPTIONS)(_named(function))


def entry(function: Callable[[int, int, int], None]) -> Any:
    """Compile a step ``function(record, thread, threads)`` to a C function; ``.address`` is where it is.

    ``record`` is the address of the step's int64 arguments.
    """
    from numba.core.ccallback import CFunc
    from numba.core.typing import signature
    from numba.types import int64, void

    sig = signature(void, int64, int64, int64)
    compiled = CFunc(_named(function), (sig.args, sig.return_type), locals={}, options=dict(OPTIONS))
    if folder() is not None:
        compiled._cache = _DiskCache(function)
    compiled.compile()
    return compiled


@lru_cache(maxsize=1)
def folder() -> Path | None:
    """Where compiled kernels are kept, or None if no folder can be written.

    ``$NUMBA_CACHE_DIR`` if set, else ``kernels`` in ``$WORKBENCH_CACHE`` or in the user's cache of the workbench.
    """
    root = Path(config.CACHE_DIR) if config.CACHE_DIR else _cache_home() / "kernels"
    path = root / f"workbench-{_stamp()[:16]}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError:
        return None
    return path


def _cache_home() -> Path:
    own = os.environ.get("WORKBENCH_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "sparse-workbench"


@lru_cache(maxsize=1)
def _stamp() -> str:
    """What compiled code depends on beside its own key: the package's text, versions, features, bounds check."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    setting = (numba.__version__, sys.version_info[:2], features(), config.BOUNDSCHECK, config.OPT)
    digest.update(repr(setting).encode())
    return digest.hexdigest()


class _Locator(_CacheLocator):
    def __init__(self, function: Any, _file: str) -> None:
        self._line = function.__code__.co_firstlineno
        self._py_file = _file

    def get_cache_path(self) -> str:
        return str(folder())

    def get_source_stamp(self) -> str:
        return _stamp()

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _Locator:
        return cls(py_func, py_file)


class _Impl(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012 - numba's own name for a constant


class _DiskCache(Cache):
    _impl_class = _Impl

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = _Entries(Path(self._cache_path), self._impl.filename_base)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What was compiled before; where there is nothing, it is compiled next, and whoever wants to know is told."""
        found = super().load_overload(sig, target_context)
        if found is None:
            compiling.tell()
        return found

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return sig, codegen.magic_tuple(), identity(self._py_func)


def _named(function: Any) -> Any:
    """Put what a function closes over into its name, and so into its symbol.

    Numba tells functions of one name apart by a count within the process. Code that comes from the cache was counted in
    another process: without this, two kernels that differ only in a number they close over could share a symbol, and
    one would run in place of the other.
    """
    digest = hashlib.sha256(repr(identity(function)).encode()).hexdigest()[:12]
    function.__qualname__ = f"{function.__qualname__}_{digest}"
    return function


def identity(function: Any) -> tuple[Any, ...]:
    """What a function is, in any process: where it stands and all that it closes over, kernels included.

    Its text is not part of it: `folder` is named after the text of the whole package.
    """
    values = [cell.cell_contents for cell in function.__closure__ or ()]
    closed = tuple(identity(v.py_func) if hasattr(v, "py_func") else repr(v) for v in values)
    return function.__module__, function.__qualname__, function.__code__.co_firstlineno, closed


class _Entries:
    """One file per compiled function, named by the hash of its key."""

    def __init__(self, path: Path, base: str) -> None:
        self._path, self._base = path, base

    def _file(self, key: Any) -> Path:
        return self._path / f"{self._base}.{hashlib.sha256(repr(key).encode()).hexdigest()[:20]}.kernel"

    def save(self, key: Any, data: Any) -> None:
        from numba.core.serialize import dumps

        handle, name = tempfile.mkstemp(dir=self._path, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(dumps((repr(key), data)))
        Path(name).replace(self._file(key))

    def load(self, key: Any) -> Any:
        try:
            stored, data = pickle.loads(self._file(key).read_bytes())  # noqa: S301 - compiled code, written by us
        except (OSError, EOFError, pickle.UnpicklingError):
            return None
        return data if stored == repr(key) else None

    def flush(self) -> None:
        for path in self._path.glob(f"{self._base}.*.kernel"):
            path.unlink(missing_ok=True)
