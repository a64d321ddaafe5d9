"""Decoding that can be seen: many ways to get text out of a model, one trace of what they do.

    generate(model, prompt, method) -> Generation (text, tokens, Trace)

A method is one file in the folder of its family; what drafts and verifies shares one verifier (`verify`), one kind of
draft (`DraftTree`) and the rules of `acceptance`. Everything runs on transformers models and on the runtime that
`workbench.compile` makes.
"""

from __future__ import annotations

from workbench.decode import (  # noqa: F401 - importing registers
    baseline,
    constrained,
    depth,
    diffusion,
    search,
    speculative,
)
from workbench.decode._method import Decoder, decoder, decoders, registry, resolve
from workbench.decode.generation import Generation, generate
from workbench.decode.recorder import Recorder
from workbench.decode.run import Run
from workbench.decode.sampling import Sampler
from workbench.decode.target import CompiledTarget, Forward, Target, TransformersTarget, as_target
from workbench.decode.trace import KINDS, Trace
from workbench.decode.training.heads import train_heads
from workbench.decode.tree import DraftTree, merge

__all__ = [
    "KINDS",
    "CompiledTarget",
    "Decoder",
    "DraftTree",
    "Forward",
    "Generation",
    "Recorder",
    "Run",
    "Sampler",
    "Target",
    "Trace",
    "TransformersTarget",
    "as_target",
    "decoder",
    "decoders",
    "generate",
    "merge",
    "registry",
    "resolve",
    "train_heads",
]
