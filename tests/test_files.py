"""Files are written whole or not at all."""

from __future__ import annotations

import pytest

from workbench._files import whole, write_text
from workbench.errors import ResourceError


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_was_there_stays_when_writing_fails(tmp_path, error):
    path = tmp_path / "kept.json"
    write_text(path, "before")

    def fail():
        with whole(path) as part:
            part.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("kept.json", "before")]
    write_text(path, "äfter")
    assert path.read_text(encoding="utf-8") == "äfter"


def test_a_refusal_of_the_system_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="name another place"):
        write_text(tmp_path / "file" / "inside.json", "x", "name another place")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ResourceError, match="cannot write"):
        write_text(tmp_path / "folder", "x")
    assert {p.name for p in tmp_path.iterdir()} == {"file", "folder"}
