"""The replay of traces, and the theatre without a browser: arrays, static forms, errors."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import theatre_traces as made
from tiny_lm import tiny_lm
from workbench_widgets import Theatre, view

import workbench
from workbench.decode import KINDS, Trace
from workbench.decode.replay import ORIGINS, PANELS, Replay, replay
from workbench.errors import ArgumentError, DataError

TRACES = {name: make() for name, make in made.ALL.items()}
HAS = {
    "speculative": {"text", "drafts", "acceptance", "cost"}, "plain": {"text", "cost"},
    "beam": {"text", "cost", "search"}, "diffusion": {"text", "cost", "unmask"}, "exits": {"text", "cost", "exits"},
    "constrained": {"text", "cost", "constraints"},
}  # fmt: skip


@pytest.fixture(scope="module")
def real() -> Trace:
    """A decode of a tiny model that repeats itself."""
    found = workbench.generate(tiny_lm(), "ab ab ab ab ab ab", "prompt-lookup", max_new_tokens=24, temperature=0.5)
    return found.trace


def events(trace: Trace, *kinds: str) -> list[dict[str, Any]]:
    """Rows as dictionaries, without anything of the replay."""
    columns = {name: column.tolist() for name, column in trace.columns.items()}
    rows = [{"row": r, **{n: c[r] for n, c in columns.items()}} for r in range(len(trace))]
    for row in rows:
        row["kind"] = KINDS[row["kind"]]
    return [row for row in rows if not kinds or row["kind"] in kinds]


def slow_text(trace: Trace, step: int) -> dict[int, int]:
    """What stands after a step, event by event."""
    text: dict[int, int] = {}
    for e in events(trace, "emit", "unmask", "remask"):
        if e["step"] <= step:
            text.pop(e["position"], None)
            if e["kind"] != "remask":
                text[e["position"]] = e["token"]
    return text


@pytest.mark.parametrize("name", TRACES)
def test_the_text_of_every_frame_is_what_its_events_say(name: str) -> None:
    trace, found = TRACES[name], replay(TRACES[name])
    for frame, step in enumerate(found.frames.label.tolist()):
        stands = {p.place: p.token for p in found.text(frame)}
        assert stands == slow_text(trace, step)
        if not len(found.search):
            assert found.frames.tokens[frame] == len(stands)
    assert [p.token for p in found.text(-1)] == trace.tokens.tolist()


@pytest.mark.parametrize("name", TRACES)
def test_only_what_happened_is_shown(name: str) -> None:
    found = replay(TRACES[name])
    assert set(found.panels) == HAS[name]
    assert list(found.panels) == [p for p in PANELS if p in HAS[name]]
    assert found.to_text().startswith(f"Replay({TRACES[name].method}")


@pytest.mark.parametrize("name", TRACES)
def test_frames_count_events_passes_and_time(name: str) -> None:
    trace, f = TRACES[name], replay(TRACES[name]).frames
    all_ = events(trace)
    for frame, step in enumerate(f.label.tolist()):
        mine = all_[f.first[frame] : f.first[frame + 1]]
        assert mine
        assert {e["step"] for e in mine} == {step}
        assert f.verified[frame] == sum(e["value"] for e in mine if e["kind"] == "verify")
        assert f.seconds[frame] == mine[-1]["seconds"]
    assert f.first[-1] == len(trace)
    assert f.target[-1] == trace.cost.target_forwards
    spent = replay(trace).spent
    assert spent[-1].sum() == pytest.approx(all_[-1]["seconds"])
    assert (np.diff(spent, axis=0) >= 0).all()


def test_origins_are_those_of_the_trace() -> None:
    kinds = {"accept": "accepted", "residual": "corrected", "bonus": "bonus", "emit": "plain"}
    trace = TRACES["speculative"]
    assert [p.origin for p in replay(trace).text(-1)] == [kinds[k] for k in trace.origins]
    exits = replay(TRACES["exits"])
    left = {e["position"]: e["layer"] for e in events(TRACES["exits"], "emit")}
    assert {p.place: p.number for p in exits.text(-1)} == left
    assert {p.origin for p in exits.text(-1)} == {"exited"}
    unmasked = {e["position"]: e["step"] for e in events(TRACES["diffusion"], "unmask")}  # the last time counts
    assert {p.place: p.number for p in replay(TRACES["diffusion"]).text(-1)} == unmasked


def test_a_token_that_is_masked_again_is_gone_until_it_comes_back() -> None:
    trace, found = TRACES["diffusion"], replay(TRACES["diffusion"])
    [again] = events(trace, "remask")
    frame = found.frames.label.tolist().index(again["step"])
    assert again["position"] not in {p.place for p in found.text(frame)}
    assert again["position"] in {p.place for p in found.text(-1)}


def test_drafts_are_trees_with_what_became_of_each_node() -> None:
    trace, found = TRACES["speculative"], replay(TRACES["speculative"])
    for frame, step in enumerate(found.frames.label.tolist()):
        drafted = [e for e in events(trace, "draft") if e["step"] == step]
        tried = {e["parent"]: e for e in events(trace, "accept", "reject")}
        nodes = found.drafts.tree(trace, frame)
        assert [n.token for n in nodes] == [e["token"] for e in drafted]
        for node, event in zip(nodes, drafted, strict=True):
            above = drafted[node.parent]["row"] if node.parent >= 0 else -1
            assert above == event["parent"]
            verdict = tried.get(event["row"])
            assert node.state == (verdict["kind"] if verdict else "untried")
            assert node.p == pytest.approx(np.exp(verdict["log_p"]) if verdict else np.nan, nan_ok=True)
            assert node.u == pytest.approx(verdict["u"] if verdict else np.nan, nan_ok=True)
        own = [e for e in events(trace, "residual", "bonus") if e["step"] == step]
        assert found.drafts.last[frame] == (own[0]["row"] if own else -1)


@pytest.mark.parametrize("source", ["speculative", "real"])
def test_acceptance_grows_to_that_of_the_trace(source: str, real: Trace) -> None:
    trace = real if source == "real" else TRACES[source]
    found = replay(trace).drafts
    assert found.rounds[-1] == trace.acceptance.drafts
    shares = found.accepted[-1] / found.rounds[-1]
    assert shares.tolist() == pytest.approx(list(trace.acceptance.by_position))
    assert (np.diff(found.accepted, axis=0) >= 0).all()


def test_a_search_knows_who_lives_who_leads_and_who_won() -> None:
    trace, found = TRACES["beam"], replay(TRACES["beam"]).search
    children: dict[int, list[int]] = {}
    for n, above in enumerate(found.parent.tolist()):
        children.setdefault(above, []).append(n)
    for n in range(len(found)):
        if n in children:
            assert found.gone[n] == max(found.gone[c] for c in children[n]), "as long as the longest-lived child"
        assert found.gone[n] >= found.frame[n]
    frames = len(found.leader)
    for frame in range(1, frames):
        alive = [n for n in range(len(found)) if found.frame[n] == frame and found.gone[n] > frame]
        assert found.score[found.leader[frame]] == max(found.score[n] for n in alive)
    winners = [int(trace.columns["token"][found.row[n]]) for n in np.flatnonzero(found.chosen)]
    assert winners == trace.tokens.tolist()
    best = int(np.flatnonzero(found.chosen)[-1])
    assert found.tokens(best, trace.columns["token"]) == trace.tokens.tolist()
    assert replay(trace).hypothesis(0) == []
    assert len(replay(trace).hypothesis(3)) == 3


def test_a_candidate_that_is_dropped_at_once_does_not_take_its_parent_along() -> None:
    trace, found = TRACES["beam"], replay(TRACES["beam"]).search
    at_once = [e for e in events(trace, "prune") if e["token"] >= 0 and e["parent"] >= 0]
    assert at_once
    rows = found.row.tolist()
    for event in at_once:
        n = rows.index(event["row"])
        assert found.gone[n] == found.frame[n]
        assert found.parent[n] == rows.index(event["parent"])


def test_texts_drawn_before_one_is_said_are_a_search() -> None:
    box = made.Made()
    for branch, tokens in enumerate([(3, 4, 5), (6, 7, 8)]):
        for place, token in enumerate(tokens):
            box.recorder.step += 1
            at = box.place + place
            box.recorder.add("constrain", token=9, position=at, branch=branch, value=0.0)
            box.recorder.add("constrain", token=token, position=at, branch=branch, value=1.0)
    for token in (6, 7, 8):
        box.emit(token)
    found = replay(box.done("awrs"))
    assert "search" in found.panels
    assert found.hypothesis(3) == [3, 4, 5]
    assert found.hypothesis(5) == [6, 7]
    assert found.frames.tokens.tolist() == [0, 1, 2, 3, 1, 2, 3]
    assert np.flatnonzero(found.search.chosen).tolist() == [3, 4, 5], "the walk that was said"


@pytest.mark.parametrize("noted", [{"sizes": [2, 1], "ratios": [3.0, 1.5]}, {"1": 1.5, "2": 3.0}, [[1, 1.5], [2, 3.0]]])
def test_measured_costs_come_from_the_notes(noted: Any) -> None:
    box = made.Made()
    box.emit(3)
    found = replay(box.done("x", costs=noted))
    assert (found.passes, found.measured) == ([(1, 1.0), (2, 2.0)], True)


def test_without_notes_costs_come_from_enough_passes_of_the_trace() -> None:
    assert replay(TRACES["plain"]).passes == []
    found = replay(TRACES["beam"])
    assert not found.measured
    box = made.Made()
    for size in (1, 1, 1, 8, 8, 8, 5):
        box.recorder.add("verify", value=size, position=box.place)
    assert replay(box.done("x")).passes == [(1, 1.0), (8, pytest.approx(1.16 / 1.02))]


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no events"):
        replay(made.Recorder().finish("x", {}, [1], str, TRACES["plain"].provenance))
    with pytest.raises(ArgumentError, match="frame=99: the trace has 25 frames"):
        replay(TRACES["speculative"]).text(99)
    with pytest.raises(ArgumentError, match="frame=99: 0 to 24, or -1 for the end"):
        workbench.theatre(TRACES["speculative"], frame=99)
    with pytest.raises(ArgumentError, match="pass a Trace"):
        workbench.theatre(3)
    box = made.Made()
    box.emit(3)
    other = box.recorder.finish("x", {}, [5, 6], made.piece, TRACES["plain"].provenance)
    with pytest.raises(ArgumentError, match="answers another prompt"):
        workbench.theatre(TRACES["plain"], other)
    path = tmp_path / "x.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="wanted 1"):
        workbench.theatre(path)


def unpacked(theatre: Theatre, play: int) -> dict[str, np.ndarray]:
    """The arrays as the front end reads them."""
    kinds = {"u1": np.uint8, "i4": np.int32, "f4": np.float32}
    places = theatre.plays[play]["arrays"]
    return {name: np.frombuffer(theatre.data, kinds[kind], n, at) for name, (kind, at, n) in places.items()}


def test_the_front_end_gets_every_array_once() -> None:
    theatre = workbench.theatre(TRACES["speculative"])
    [found], arrays = theatre.replays, unpacked(theatre, 0)
    assert isinstance(found, Replay)
    for table in ("frames", "changes", "drafts", "search"):
        for name in getattr(found, table).__slots__:
            want = np.asarray(getattr(getattr(found, table), name), np.float32).ravel()
            assert np.array_equal(arrays[f"{table}.{name}"].astype(np.float32), want, equal_nan=True), name
    assert np.array_equal(arrays["events.log_p"], found.trace.columns["log_p"], equal_nan=True)
    assert all(at % 8 == 0 for _, at, _ in theatre.plays[0]["arrays"].values())
    assert theatre.plays[0]["origins"] == list(ORIGINS)
    assert theatre.plays[0]["pieces"]["12"] == "\n"
    json.dumps(theatre.state(), allow_nan=False)


def test_two_traces_share_one_run_of_bytes(real: Trace, tmp_path: Path) -> None:
    plain = workbench.generate(tiny_lm(), "ab ab ab ab ab ab", max_new_tokens=12)
    theatre = workbench.theatre(plain, real.save(tmp_path / "trace.json"))
    assert [p["method"] for p in theatre.plays] == ["greedy", "prompt-lookup"]
    assert unpacked(theatre, 1)["changes.token"].tolist() == real.tokens.tolist()
    assert "flex" in theatre.static_html()
    assert theatre.static_text().count("tokens per pass") == 2


@pytest.mark.parametrize("name", TRACES)
def test_the_static_form_has_the_text_and_no_script(name: str) -> None:
    theatre = workbench.theatre(TRACES[name], frame=0)
    html = theatre.static_html()
    assert "<script" not in html
    assert "&lt;b&gt;" in html or "<b>" not in html, "tokens are text, not HTML"
    assert "Where tokens came from" in html or "Text" in html
    assert ("data:image/png" in html) == (name in ("diffusion", "exits"))
    assert "Text" in theatre.static_text()


def test_a_page_of_its_own_needs_nothing_else(tmp_path: Path) -> None:
    page = workbench.theatre(TRACES["speculative"]).to_html(tmp_path / "theatre.html")
    assert (tmp_path / "theatre.html").read_text(encoding="utf-8") == page
    assert "https://" not in page.replace("https://www.w3.org", "")
    assert "<b>" not in page.split('id="state">')[1].split("</script>")[0]


def test_words_without_spaces_are_told_apart() -> None:
    box = made.Made()
    box.emit(0)
    box.emit(6)
    tight = box.done("x")
    where = TRACES["plain"].provenance
    apart = replay(box.recorder.finish("x", {}, [0], lambda t: f"<{t}>", where))
    assert not replay(tight).loose
    assert apart.loose
    assert "<0> <6>" in apart.to_text()


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench_widgets._theatre_state.LIMIT", 1000)
    with pytest.raises(ArgumentError, match="detail=False"):
        workbench.theatre(TRACES["plain"])


def test_view_opens_the_theatre(real: Trace) -> None:
    assert isinstance(view(real), Theatre)


def test_the_modules_make_one_module(tmp_path: Path) -> None:
    assert Theatre._esm.count("export ") == 1
    assert "import {" not in Theatre._esm
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    path = tmp_path / "theatre.mjs"
    path.write_text(Theatre._esm, encoding="utf-8")
    ran = subprocess.run([node, "--check", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
