"""Compile the kernels that the lessons use, so that the first cell of a visitor does not: part of postBuild.

Kernels are the same for models of any size, so a tiny random one is enough. They are made for the processor that they
are compiled on; on another one they are compiled again, and nothing breaks.
"""

import sys
import time

import workbench
from workbench.decode import as_target
from workbench.decode.costs import costs_of
from workbench.testing import tiny_lm

SIZES = {"hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 256}
FORMS = {None: ("dense", ("fp32", "bf16", "int8")), 0.5: ("bitmap", ("fp32", "int8"))}


def main() -> None:
    """Prune, compile, decode: once for each form."""
    start, lm = time.monotonic(), tiny_lm(**SIZES, head_dim=64)
    for sparsity, (form, kinds) in FORMS.items():
        model = lm if sparsity is None else workbench.prune(lm, "magnitude", sparsity=sparsity)
        for values in kinds:
            compiled = workbench.compile(model, form, values, threads=1)
            list(compiled.generate(list(range(5, 45)), 4))  # a prompt of many tokens, then one at a time
            if values != "fp32":
                costs_of(as_target(compiled))  # guesses: several tokens at once, in chains and in trees
    print(f"kernels compiled in {time.monotonic() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
