"""What the machine does in a kernel's inner loop, for those who want to see it."""

from __future__ import annotations

from workbench_kernels import KernelError, inspection

from workbench.errors import ArgumentError
from workbench.execute._clock import check_count
from workbench.execute.forms import check_values, form
from workbench.execute.patterns import random_weight

SHAPE = (256, 256)


def instructions(format: str, values: str = "fp32", tokens: int = 8) -> dict[str, int]:  # noqa: A002 - as elsewhere
    """Vector instructions in the inner loop of a kernel, as compiled for this processor.

    Parameters
    ----------
    format
        Such as ``"16x1"``; see `workbench.execute.forms.FORMS`.
    values
        ``"fp32"``, ``"bf16"`` or ``"int8"``.
    tokens
        How many come together: other numbers have other kernels.

    Returns
    -------
    dict
        Mnemonic to how often it stands in the loop, the most frequent first.

    Raises
    ------
    ArgumentError
        If a name is wrong.

    Examples
    --------
    >>> workbench.execute.instructions("bitmap", tokens=8)                             # doctest: +SKIP
    {'vfmadd231ps': 16, 'vbroadcastss': 8, 'vexpandps': 2, 'kmovd': 2}
    """
    chosen, count = form(format), check_count("tokens", tokens)
    weight = chosen.build(random_weight(SHAPE, chosen.pattern or "unstructured", None, 0), check_values(values))
    try:
        return inspection.instructions(weight, count)
    except KernelError as error:
        raise ArgumentError(f"{weight.name} at {count} tokens: {error}") from error
