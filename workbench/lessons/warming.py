"""Compile the kernels that lessons use before a reader comes to them: half a minute, once per machine and version.

Kernels are the same for models of any size, so a tiny random one is enough. They are made for the processor that they
are compiled on; on another one they are compiled again, and nothing breaks. `workbench lab` runs this module beside
its server, Binder's postBuild runs it once.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from workbench._convert import end_with

SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 256,
}
FORMS = {None: ("dense", ("fp32", "bf16", "int8")), 0.5: ("bitmap", ("fp32", "int8"))}
ROOM = 3 << 30  # bytes that must be free: a reader's lesson comes first
DONE = "warmed"


def warm() -> None:
    """Prune, compile, decode, check guesses: once for each form."""
    import workbench
    from workbench.decode import as_target
    from workbench.decode.costs import costs_of
    from workbench.testing import tiny_lm

    lm = tiny_lm(**SIZES, head_dim=64)
    for sparsity, (form, kinds) in FORMS.items():
        model = lm if sparsity is None else workbench.prune(lm, "magnitude", sparsity=sparsity)
        for values in kinds:
            compiled = workbench.compile(model, form, values, threads=1)
            list(compiled.generate(list(range(5, 45)), 4))  # a prompt of many tokens, then one at a time
            if values != "fp32":
                costs_of(as_target(compiled))  # guesses: several tokens at once, in chains and in trees


def beside() -> None:
    """Start `main` in a process of its own, which ends with this one."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    nothing = subprocess.DEVNULL
    with contextlib.suppress(OSError):
        subprocess.Popen(
            [sys.executable, "-P", "-m", __name__], env=environment, stdin=nothing, stdout=nothing, stderr=nothing
        )


def main() -> int:
    """Compile what is not there, with little claim to the processor; nothing if it was done, or memory is small."""
    from workbench_kernels._jit import folder

    place = folder()
    if place is None or (place / DONE).exists():
        return 0
    from workbench.measure.memory import available_memory

    if available_memory() < ROOM:
        return 0
    with contextlib.suppress(OSError, AttributeError):
        os.nice(19)
    end_with(os.getppid())
    warm()
    done(place)
    return 0


def done(place: Path) -> None:
    """Remember that everything is there."""
    with contextlib.suppress(OSError):
        (place / DONE).touch()


if __name__ == "__main__":
    sys.exit(main())
