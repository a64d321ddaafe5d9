"""Numbers in words: how every text and picture of the workbench writes them."""

from __future__ import annotations

import math


def number(value: float, digits: int = 4) -> str:
    """Whole numbers with separators, others with ``digits`` significant digits.

    Examples
    --------
    >>> number(134515008), number(19.87654), number(0.000123456), number(float("inf"))
    ('134,515,008', '19.88', '0.0001235', 'inf')
    """
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return str(value)
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    size = math.floor(math.log10(abs(value))) if value else 0
    text = f"{value:,.{max(0, digits - 1 - size)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def amount(size: float) -> str:
    """Bytes in decimal units.

    Examples
    --------
    >>> amount(538_060_032), amount(512), amount(-1.5e9)
    ('538 MB', '512 B', '-1.5 GB')
    """
    value, unit = float(size), "B"
    for bigger in ("kB", "MB", "GB", "TB"):
        if abs(value) < 999.5:
            break
        value, unit = value / 1000, bigger
    return f"{number(value, 3)} {unit}"


def share(value: float) -> str:
    """A fraction in per cent.

    Examples
    --------
    >>> share(0.5), share(0.12345), share(-0.5)
    ('50 %', '12.35 %', '-50 %')
    """
    return f"{number(100 * value)} %"
