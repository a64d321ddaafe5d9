"""Smaller KV caches: which keys may go, one method a file, and a model that decodes with what is left."""

from __future__ import annotations

from workbench.attention.kv import (  # noqa: F401 - importing registers
    adakv,
    expected,
    h2o,
    knorm,
    mustafar,
    snapkv,
    speckv,
    specpc,
    streaming,
    tova,
)
from workbench.attention.kv._method import HeadView, KVMethod, kv_method, registry, resolve
from workbench.attention.kv.history import KVHistory, kv_history
from workbench.attention.kv.quality import KVQuality, kv_quality
from workbench.attention.kv.target import CompressedTarget

__all__ = [
    "CompressedTarget",
    "HeadView",
    "KVHistory",
    "KVMethod",
    "KVQuality",
    "kv_history",
    "kv_method",
    "kv_quality",
    "registry",
    "resolve",
]
