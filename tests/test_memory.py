"""Peak memory is seen, nested blocks do not blind each other, and too little room is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from workbench.errors import ResourceError
from workbench.measure import memory
from workbench.measure.memory import available_memory, peak_memory, require_disk, require_memory

BLOCK = 80_000_000


def touch(size: int = BLOCK) -> None:
    """Take memory for real, long enough to be sampled, and give it back."""
    block = np.ones(size, np.uint8)
    for _ in range(8):
        block += 1


@pytest.mark.parametrize("exact", [True, False])
def test_peak_is_seen_though_it_is_gone_at_the_end(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exact:
        monkeypatch.setattr(memory, "_RESET", Path("/nowhere"))
    touch(1000)
    with peak_memory() as seen:
        touch()
    assert 0.95 * BLOCK < seen.over_start_bytes < 2.5 * BLOCK
    with peak_memory() as calm:
        touch(1000)
    assert calm.over_start_bytes < 0.3 * BLOCK
    assert "MB" in repr(seen)


def test_an_inner_block_does_not_hide_the_peak_of_the_outer() -> None:
    with peak_memory() as outer:
        touch()
        with peak_memory() as inner:
            touch(BLOCK // 4)
    assert outer.over_start_bytes > 0.95 * BLOCK
    assert inner.over_start_bytes < 0.7 * BLOCK
    assert not memory._active


def fail() -> None:
    touch()
    raise ZeroDivisionError


def test_peak_survives_an_error() -> None:
    with pytest.raises(ZeroDivisionError), peak_memory() as seen:
        fail()
    assert seen.over_start_bytes > 0.95 * BLOCK
    assert not memory._active


def test_what_was_freed_before_does_not_hide_what_is_taken() -> None:
    pieces = [bytearray(60_000) for _ in range(3 * BLOCK // 60_000)]
    above = bytearray(60_000)  # so that the pieces, once free, are not at the end of the heap
    del pieces
    with peak_memory() as seen:
        touch()
    assert seen.over_start_bytes > 0.95 * BLOCK
    assert above


def test_room_is_checked(tmp_path: Path) -> None:
    assert 10**7 < available_memory() < 10**14
    require_memory(1)
    require_disk(tmp_path / "not" / "there", 1)
    with pytest.raises(ResourceError, match=r"Wanda needs 1,000 TB of memory, .* are available"):
        require_memory(10**15, "Wanda")
    with pytest.raises(ResourceError, match=r"the export needs 1,000 TB on the disk of .* are free"):
        require_disk(tmp_path / "not" / "there", 10**15, "the export")


@pytest.mark.parametrize(
    ("limit", "room"), [("1000000", 600_000), ("max", None), ("9223372036854771712", None), ("100", 0)]
)
def test_container_limits(limit: str, room: int | None, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(limit + "\n")
    (tmp_path / "memory.current").write_text("500000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 100000\n")
    assert memory._room(tmp_path, "memory.max", "memory.current") == room
    assert memory._room(tmp_path / "none", "memory.max", "memory.current") is None
