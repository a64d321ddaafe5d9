"""The joined studio without a browser: one session, one selection, one job for five panels; nothing left over."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ipywidgets.widgets import widget
from test_session_kept import SIZES, compilable
from workbench_widgets import ComparePanel, DecodePanel, Studio
from workbench_widgets._desk import Desk
from workbench_widgets.studio import PANELS

import workbench
from workbench.errors import ArgumentError
from workbench.measure.memory import peak_memory
from workbench.prune import Recipe

PROMPT = "one two three one two three one two"


def settled(studio: Any, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while studio.busy:
        assert time.monotonic() < end, studio.job
        time.sleep(0.005)
    return studio


def opened(session: Any, **options: Any) -> Studio:
    return settled(workbench.studio(session, **options))


def heard(panel: Any, **content: Any) -> None:
    """What the front end sends."""
    panel._heard(None, content, [])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kept session with a pruned and a compiled variant."""
    folder = tmp_path_factory.mktemp("made") / "session"
    session = workbench.open(folder, compilable(), **SIZES)
    session.prune(method="magnitude", sparsity=0.5, speed=False)
    session.compile("auto", "fp32", speed=False)
    session.close()
    return folder


@pytest.fixture
def studio(made: Path) -> Iterator[Studio]:
    session = workbench.open(made, compilable())
    shown = opened(session)
    yield shown
    shown.cancel()
    settled(shown)
    shown.close()
    session.close()


def test_panels_are_made_when_they_are_visited(studio: Studio) -> None:
    assert list(studio.panels) == ["prune"]
    for name in PANELS:
        studio.set_state({"panel": name})
        assert studio.places[name] == studio.panels[name].reference
    assert {p.desk for p in studio.panels.values()} == {studio.desk}
    with pytest.raises(ArgumentError, match="unknown panel 'atend': did you mean 'attend'"):
        studio.visit("atend")


def test_a_reopened_session_is_looked_at_from_its_newest_variant(studio: Studio) -> None:
    assert [name for _, name in studio.chooser["variants"]] == [
        "dense",
        "1: magnitude 50 %",
        "2: magnitude 50 % + compiled auto-fp32",
    ]
    assert studio.chooser["selected"] == studio.desk.selected == 2


def test_choosing_a_variant_changes_all_panels(studio: Studio) -> None:
    panels = {name: settled(studio).visit(name) for name in PANELS}
    heard(studio, command="select", number=1)
    assert panels["prune"].selected == 1
    assert panels["execute"].inside.choice["model"] == "1: magnitude 50 %"
    assert panels["attend"].variant["base"] == panels["decode"].variant["name"] == "1: magnitude 50 %"
    assert (panels["compare"].selected, panels["compare"].recipe["number"]) == (1, 1)
    panels["compare"]._heard(None, {"command": "select", "number": 2}, [])
    assert studio.chooser["selected"] == panels["prune"].selected == 2
    assert panels["execute"].inside.choice["model"] == "1: magnitude 50 %", "what a compiled variant was made from"
    assert panels["decode"].variant["name"].endswith("compiled auto-fp32")
    assert [panels["prune"].size[side]["packed"] for side in ("dense", "pruned")] == [False, True], (
        "no file has them so"
    )
    panels["prune"].set_state({"selected": -1})
    assert (studio.desk.selected, panels["decode"].variant["name"]) == (0, "dense")
    assert panels["execute"].inside.choice["model"] == "dense"
    heard(studio, command="select", number=9)
    assert "there are 1, 2" in studio.error["text"]


def test_the_whole_loop(tmp_path: Path) -> None:
    session = workbench.open(tmp_path / "bench", compilable(), **SIZES)
    studio = opened(session, method="magnitude")
    heard(studio.panels["prune"], command="prune")
    settled(studio)
    execute = studio.visit("execute")
    heard(execute.inside, command="run")
    settled(studio)
    assert execute.inside.timings["complete"]
    heard(execute, command="compile", format="auto", values="fp32")
    settled(studio)
    assert (execute.error, studio.desk.selected, session.variants[1].compiled) == ({}, 2, True)
    attend = studio.visit("attend")
    attend.set_state({"text": "the cat sat on the mat. " * 12})  # longer than the model can read
    heard(attend, command="study")
    settled(studio)
    assert attend.reads == {"tokens": 288, "most": 256}
    assert attend.inside.study.table.tokens == 256
    assert attend.inside.study.table.kinds.shape == (3, 4)
    decode = studio.visit("decode")
    decode.set_state({"prompt": PROMPT})
    heard(decode, command="generate", method="greedy", use="model", tokens=8, temperature=0.0, pattern="")
    settled(studio)
    heard(studio, command="select", number=1)
    heard(decode, command="generate", method="draft-model", use="draft", tokens=8, temperature=0.0, pattern="")
    settled(studio)
    assert [r["who"] for r in decode.rows] == [session.variants[1].name, "dense, drafted by 1: magnitude 50 %"]
    assert decode.inside.plays[0]["settings"].startswith("draft magnitude 50 % · draft tokens "), "a name, not a repr"
    heard(decode, command="see", numbers=[2, 1])
    assert [p["method"] for p in decode.inside.plays] == ["draft-model", "greedy"]
    plain = session.generate(PROMPT, "greedy", variant=0, max_new_tokens=8)
    assert decode.generations[2].tokens.tolist() == plain.tokens.tolist(), "the draft changes no token"
    compare = studio.visit("compare")
    heard(compare, command="beside", left=0, right=1)
    settled(studio)
    assert [r["number"] for r in compare.table["rows"]] == [0, 1, 2]
    assert len(compare.inside.plays) == 2
    assert all(p.error == {} for p in [studio, *studio.panels.values()])
    json.dumps(studio.state(), allow_nan=False)
    studio.close()
    session.close()
    again = workbench.open(tmp_path / "bench", compilable())
    assert [v.name for v in again.variants] == [v.name for v in session.variants]
    again.close()


def test_one_job_at_a_time_and_every_panel_knows(studio: Studio) -> None:
    prune, decode = studio.panels["prune"], studio.visit("decode")
    heard(prune, command="prune")
    heard(decode, command="generate", method="greedy")
    assert "the studio is busy (" in decode.error["text"]
    assert decode.job["text"].startswith("Busy: ")
    assert studio.job["state"] == "running"
    start = time.monotonic()
    heard(studio, command="cancel")
    settled(studio)
    assert time.monotonic() - start < 1
    assert studio.job["state"] == prune.job["state"] == "cancelled"
    assert decode.job["state"] == "idle"
    assert len(studio.session.variants) == 2


def test_scoring_gives_way_and_comes_back(studio: Studio) -> None:
    prune, compare = studio.panels["prune"], studio.visit("compare")
    prune.set_state({"choice": {**prune.choice, "method": "wanda"}})
    compare.beside(0, 0, tokens=2)
    settled(studio)
    assert compare.error == {}
    assert studio.session.ready, "what gave way is done once the other is over"


def test_cancelling_is_told_even_when_the_job_ends_at_the_same_time() -> None:
    desk, told = Desk(), []

    class Listener:
        def job_told(self, job: dict[str, Any], mine: bool) -> None:
            if job["state"] == "cancelling":
                desk._tell({**job, "state": "cancelled", "text": "over"})  # the other thread is quicker
            told.append((job["state"], mine))

        def at_rest(self) -> None:
            """Nothing to do."""

    listener: Any = Listener()
    desk.join(listener)
    go = threading.Event()
    desk.run(listener, "x", "Working", lambda progress: go.wait(5), lambda _: None)
    desk.cancel()
    assert told[-1] == ("cancelled", True)
    go.set()


def test_undo_and_redo_are_heard_everywhere(studio: Studio) -> None:
    heard(studio, command="select", number=1)
    heard(studio.panels["prune"], command="apply")
    assert (studio.chooser["applied"], studio.chooser["can_undo"]) == (1, True)
    heard(studio, command="undo")
    assert studio.chooser["applied"] == 0
    assert studio.panels["prune"].history == {"can_undo": False, "can_redo": True, "current": ""}
    settled(studio)


def test_errors_reach_the_screen(studio: Studio) -> None:
    decode, attend = studio.visit("decode"), studio.visit("attend")
    heard(decode, command="generate", method="greedy", use="draft")
    assert "takes no draft model" in decode.error["text"]
    heard(decode, command="generate", method="masked", tokens=4)
    settled(studio)
    assert decode.job["state"] == "failed"
    attend.set_state({"text": "  "})
    heard(attend, command="study")
    assert "no text to read" in attend.error["text"]
    for number, what, folder in ((1, "everything", "x"), (1, "model", " "), (0, "recipe", "x")):
        studio.desk.select(number)
        studio.error = {}
        heard(studio, command="export", what=what, folder=folder)
        assert studio.error["text"], what


def test_exports(studio: Studio, tmp_path: Path) -> None:
    written = {}
    for what in ("model", "recipe", "python", "report"):
        heard(studio, command="export", what=what, folder=str(tmp_path))
        settled(studio)
        assert studio.error == {}
        written[what] = Path(studio.written["path"])
        assert studio.written["bytes"] > 0
    assert workbench.load(written["model"]).module.config.num_hidden_layers == 3
    assert Recipe.from_json(written["recipe"].read_text("utf-8")).method == "magnitude"
    assert written["python"].read_text("utf-8") == studio.session.to_python()
    page = written["report"].read_text("utf-8")
    assert "<noscript>" in page
    assert "https://" not in page
    assert "http://" not in page.replace("http://www.w3.org/", "")


def test_the_page_holds_what_was_visited_and_the_comparison(studio: Studio) -> None:
    decode = studio.visit("decode")
    decode.generate("greedy", tokens=4)
    settled(studio)
    page = studio.to_html()
    views = json.loads(page.split('id="views">')[1].split("</script>")[0])
    assert sorted(v["module"] for v in views.values()) == ["ComparePanel", "DecodePanel", "PrunePanel", "Theatre"]
    state = json.loads(page.split('id="state">')[1].split("</script>")[0])
    assert (state["live"], [name for name, _ in state["titles"]]) == (False, ["prune", "decode", "compare"])
    assert page.count("/* The studio. Colours") == 1, "the shared sheet is there once"


def test_every_panel_is_a_widget_of_its_own(studio: Studio) -> None:
    for name, (_, kind) in PANELS.items():
        alone = kind(studio.session)
        assert alone.desk is not studio.desk, name
        assert "text/html" in alone._repr_mimebundle_()[0]
        settled(alone)
        alone.close()
    assert isinstance(ComparePanel(studio.desk), ComparePanel)
    assert DecodePanel(studio.session).methods


def test_without_a_kernel_there_is_the_comparison(studio: Studio) -> None:
    data, _ = studio._repr_mimebundle_()
    assert "1: magnitude 50 %" in data["text/html"]
    assert "<script" not in data["text/html"]
    assert data["text/plain"].endswith("2 variants")


def test_the_report_of_the_library_needs_no_widget(studio: Studio) -> None:
    page = studio.session.report()
    assert page.count("<h1>") == page.count("<html") == 1
    assert "<script" not in page
    for variant in studio.session.variants:
        assert variant.name in page
    assert "workbench.compile(v1, format=" in page


def test_a_session_takes_no_texts_beside_it(studio: Studio) -> None:
    with pytest.raises(ArgumentError, match="pass it alone"):
        workbench.studio(studio.session, seqlen=32)
    with pytest.raises(ArgumentError, match="unknown panel"):
        workbench.studio(studio.session, panel="x")


def test_a_hundred_studios_leave_nothing_behind(made: Path) -> None:
    session = workbench.open(made, compilable())

    def once() -> None:
        studio = opened(session)
        studio.visit("decode").generate("greedy", tokens=2)
        for name in PANELS:
            settled(studio).visit(name)
        settled(studio).close()

    for _ in range(5):
        once()
    gc.collect()
    widgets, threads = len(widget._instances), threading.active_count()
    with peak_memory() as memory:
        for _ in range(95):
            once()
        gc.collect()
    assert len(widget._instances) == widgets
    assert threading.active_count() < threads + 10, "a leak would be one a studio; libraries start some of their own"
    assert memory.over_start_bytes < 20 << 20
    session.close()
