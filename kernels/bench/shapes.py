"""What is timed: the shapes of real layers, and one case per goal with the ratio that it is to reach."""

from __future__ import annotations

from dataclasses import dataclass

SMOLLM2 = ((576, 576), (192, 576), (1536, 576), (576, 1536))  # outputs x inputs of SmolLM2-135M
BERT = ((768, 768), (3072, 768))  # of BERT-base
LARGE = ((4096, 4096),)
SHAPES = SMOLLM2 + BERT + LARGE
FEW = ((1536, 576), (3072, 768), (4096, 4096))

FP32, BF16, INT8, DENSE = "torch fp32", "torch bf16", "torch int8", "own dense"
LIBRARIES = ("torch.sparse CSR", "scipy", "MKL sparse")
SDPA, OWN_ATTENTION = "torch SDPA fp32", "own dense attention"
MEMORY = "DRAM bandwidth"  # not a peer: the ratio is the share of the read bandwidth, measured in between


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio to reach against the fastest of some peers."""

    ratio: float
    against: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.ratio:g} x {' / '.join(self.against)}"


@dataclass(frozen=True, slots=True)
class Case:
    """A kernel, the work that it is given, and its goals.

    Attributes
    ----------
    name : str
    kernel : str
        In `workbench_kernels`' table of kernels.
    sparsity : float
        Share of weights (or of blocks of keys) that is left out.
    tokens : int
        Rows of activations; for attention queries per head.
    states : tuple of str
        ``"warm"``: the weights were just used. ``"cold"``: they come from memory.
    goals : tuple of Goal
        To be reached in every state at every shape: the worse counts.
    shapes : tuple of tuple of int
        Outputs x inputs; for attention KV heads x query heads of each x tokens x head dimension.
    family : str
        ``"matmul"``, ``"prefill"``, ``"decode"`` or ``"other"``.
    """

    name: str
    kernel: str
    sparsity: float
    tokens: int
    states: tuple[str, ...] = ("warm", "cold")
    goals: tuple[Goal, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = SHAPES
    family: str = "matmul"


def _versus(fp32: float, bf16: float) -> tuple[Goal, ...]:
    return Goal(fp32, (FP32,)), Goal(bf16, (BF16,))


_PREFILL = ((3, 3, 4096, 64),)  # SmolLM2-135M
_DECODE = ((8, 4, 32768, 128),)  # Llama-3-8B
_LIBRARY = Goal(3.0, LIBRARIES)
_COLD, _WARM = ("cold",), ("warm",)
CASES = (
    Case("16x1 fp32 80% T=16", "16x1", 0.8, 16, goals=_versus(5, 3)),
    Case("4x1 fp32 80% T=16", "4x1", 0.8, 16, goals=_versus(4, 2.4)),
    Case("4x1 bf16 80% T=128", "4x1-bf16", 0.8, 128, goals=_versus(4, 2.5)),
    Case("4x1 int8 80% T=128", "4x1-int8", 0.8, 128, goals=(Goal(2, (INT8,)),)),
    Case("unstructured 80% T=128", "csr-panels", 0.8, 128, goals=(*_versus(2.5, 1.25), _LIBRARY)),
    Case("unstructured 90% T=128", "csr-panels", 0.9, 128, goals=(*_versus(3.5, 1.75), _LIBRARY)),
    Case("16x1 fp32 80% T=1", "16x1", 0.8, 1, _COLD, (Goal(5.5, (FP32,)), Goal(0.8, (MEMORY,)))),
    Case("bitmap fp32 50% T=1", "bitmap", 0.5, 1, _COLD, (Goal(1.4, (FP32,)),)),
    Case("bitmap bf16 50% T=1", "bitmap-bf16", 0.5, 1, _COLD, (Goal(3, (FP32,)),)),
    Case("bitmap int8 50% T=1", "bitmap-int8", 0.5, 1, _COLD, (Goal(6, (FP32,)),)),
    Case("prefill 4k 25% kept", "prefill-blocks", 0.75, 4096, _WARM, (Goal(5, (SDPA,)),), _PREFILL, "prefill"),
    Case("prefill 4k 10% kept", "prefill-blocks", 0.9, 4096, _WARM, (Goal(10, (SDPA,)),), _PREFILL, "prefill"),
    Case("decode 32k 12.5% kept", "decode-blocks", 0.875, 1, _COLD, (Goal(4, (OWN_ATTENTION,)),), _DECODE, "decode"),
)
QUICK = {  # the telling shape of each case
    "16x1 fp32 80% T=16": ((1536, 576),),
    "4x1 fp32 80% T=16": ((768, 768),),
    "4x1 bf16 80% T=128": ((1536, 576),),
    "4x1 int8 80% T=128": ((1536, 576),),
    "unstructured 90% T=128": ((768, 768),),
    "16x1 fp32 80% T=1": ((3072, 768),),
    "bitmap fp32 50% T=1": ((3072, 768),),
    "bitmap bf16 50% T=1": ((3072, 768),),
    "bitmap int8 50% T=1": ((3072, 768),),
    "prefill 4k 10% kept": _PREFILL,
    "decode 32k 12.5% kept": _DECODE,
}


def others(kernels: dict[str, tuple[int, ...]], multiplications: list[str]) -> tuple[Case, ...]:
    """Cases without goals for the kernels that `CASES` does not name: nothing registered stays untimed.

    Parameters
    ----------
    kernels
        Names, and the largest shape of each one's own checks.
    multiplications
        Those of them that multiply activations by weights.
    """
    named, made = {case.kernel for case in CASES}, []
    for kernel, largest in kernels.items():
        sparsity = 0.0 if kernel.startswith("dense") else 0.5 if ":" in kernel else 0.8
        if kernel in named:
            continue
        if kernel not in multiplications:
            shape = _PREFILL[0] if len(largest) == len(_PREFILL[0]) else largest
            made.append(Case(kernel, kernel, 0.5, 1, _WARM, (), (shape,), "other"))
            continue
        for tokens, states in ((1, _COLD), (16, ("warm", "cold")), (128, ("warm", "cold"))):
            made.append(Case(f"{kernel} {sparsity:.0%} T={tokens}", kernel, sparsity, tokens, states, (), FEW))
    return tuple(made)
