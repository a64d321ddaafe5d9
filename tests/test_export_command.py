"""``workbench export``: pages of what was saved, that ask for nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
import theatre_traces

import workbench
from tests.tiny_lm import tiny_lm
from workbench import cli
from workbench.commands import export


def asks(page: str) -> list[str]:
    """Addresses that a browser would fetch by itself."""
    return re.findall(
        r"""(?:<(?:script|img|link|iframe)[^>]*?(?:src|href)=|@import |url\()["']?(https?:[^"' )]+)""", page
    )


def test_a_trace_becomes_a_page_that_replays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = theatre_traces.speculative()
    trace.save(tmp_path / "t.json")
    out = tmp_path / "page.html"
    assert cli.main(["export", str(tmp_path / "t.json"), "--out", str(out)]) == 0
    assert out.read_text() == workbench.theatre(trace).to_html()
    assert asks(out.read_text()) == []
    assert f"written: {out}" in capsys.readouterr().out


def test_a_page_of_the_same_name_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    theatre_traces.plain().save(tmp_path / "t.json")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", "t.json"]) == 0
    (tmp_path / "t.html").write_text("mine")
    assert cli.main(["export", "t.json"]) == 2
    assert "is there already: name the page with --out" in capsys.readouterr().err
    assert (tmp_path / "t.html").read_text() == "mine"


def notebook(path: Path) -> Path:
    data = {
        "text/plain": "Quality(9)",
        "text/html": "<b>nine</b>",
        "application/vnd.jupyter.widget-view+json": {"model_id": "x"},
    }
    shown = nbformat.v4.new_output("display_data", data=data)
    said = nbformat.v4.new_output("stream", text="printed")
    cells = [
        nbformat.v4.new_markdown_cell("# Title\n\n$x < y$"),
        nbformat.v4.new_code_cell("lm", outputs=[said, shown]),
    ]
    made = nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {"state": {}}})
    nbformat.write(made, path)
    return path


def test_a_notebook_becomes_what_it_showed(tmp_path: Path) -> None:
    page = export.page_of(notebook(tmp_path / "a & b.ipynb"))
    for words in ("<title>a &amp; b</title>", "Title", "<b>nine</b>", "printed"):
        assert words in page
    assert asks(page) == []
    assert "<script" not in page
    assert "widget-view" not in page


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "{", "cannot be read as JSON"),
        ("a.json", json.dumps({"command": "attention"}), "figures of workbench attention, which have no page"),
        ("a.json", json.dumps({"x": 1}), "trace"),
        ("a.ipynb", "{", "is no notebook that can be read"),
        (None, "", "is no session's folder"),
        ("", "", "is not there"),
    ],
)
def test_what_has_no_page_says_so(tmp_path: Path, name: str | None, content: str, said: str, capsys: Any) -> None:
    source = tmp_path if name is None else tmp_path / (name or "nothing")
    if name:
        source.write_text(content)
    assert cli.main(["export", str(source), "--out", str(tmp_path / "p.html")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "p.html").exists()


def test_a_session_is_exported_while_it_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workbench.save(tiny_lm(), tmp_path / "tiny")
    sizes = {"samples": 2, "seqlen": 32, "windows": 2}
    bench = workbench.open(tmp_path / "mine", tmp_path / "tiny", **sizes)
    bench.prune(method="magnitude", sparsity=0.5, speed=False)
    before = sorted(p.name for p in (tmp_path / "mine").rglob("*"))
    page = export.page_of(tmp_path / "mine")
    bench.close()
    assert "magnitude" in page
    assert asks(page) == []
    assert sorted(p.name for p in (tmp_path / "mine").rglob("*")) == before
    monkeypatch.setattr(
        workbench.session, "report_html", lambda session: f"report of {len(session.variants)}", raising=False
    )
    assert export.page_of(tmp_path / "mine") == "report of 1"
