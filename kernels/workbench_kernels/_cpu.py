"""What this processor can do, asked once; ``WORKBENCH_KERNELS_CPU=generic`` forces the portable paths.

    wide        32 registers of 512 bits: tiles of 16 to 24 vectors stay in registers (AVX-512)
    expand      vexpandps, vpexpandw and vpexpandb (AVX-512 F and VBMI2)
    dot_bf16    vdpbf16ps, pairs of bf16 (AVX-512 BF16)
    dot_int8    vpdpbusd, quads of bytes (AVX-512 VNNI)

Every path has a portable twin of plain vector arithmetic, which LLVM lowers to AVX2, SSE or NEON. The variable is
read when the package is imported, because compiled kernels are made for one set of features.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache

from workbench_kernels._errors import check_choice

VARIABLE = "WORKBENCH_KERNELS_CPU"


@dataclass(frozen=True, slots=True)
class Features:
    """The features that kernels ask about.

    Attributes
    ----------
    name : str
        Of the processor, as LLVM calls it, or ``"generic"`` when forced.
    wide, expand, dot_bf16, dot_int8 : bool
    """

    name: str
    wide: bool
    expand: bool
    dot_bf16: bool
    dot_int8: bool

    @property
    def tokens(self) -> int:
        """Tokens of one panel of activations: as many as two strips of accumulators leave registers for."""
        return 8 if self.wide else 2


@lru_cache(maxsize=1)
def features() -> Features:
    """The features of this processor; all off when ``WORKBENCH_KERNELS_CPU=generic``."""
    forced = check_choice(VARIABLE, os.environ.get(VARIABLE, "native"), ("native", "generic"))
    if forced == "generic":
        return Features("generic", wide=False, expand=False, dot_bf16=False, dot_int8=False)
    import llvmlite.binding as llvm

    has = llvm.get_host_cpu_features()
    wide = all(has.get(name, False) for name in ("avx512f", "avx512bw", "avx512vl", "avx512dq"))
    return Features(
        llvm.get_host_cpu_name(),
        wide=wide,
        expand=wide and has.get("avx512vbmi2", False),
        dot_bf16=wide and has.get("avx512bf16", False),
        dot_int8=wide and has.get("avx512vnni", False),
    )
