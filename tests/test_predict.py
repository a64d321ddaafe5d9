"""Guesses: they lock, they are drawn beside what came out, and nobody has to make one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from workbench_widgets.predict import Predict

import workbench
from workbench.errors import ArgumentError
from workbench.lessons import Prediction
from workbench.lessons.scale import folded, scale

ROOT = Path(__file__).resolve().parents[1]


def test_there_is_one_guess() -> None:
    asked = Prediction("How many?", low=0, high=10)
    asked.guess(4)
    for late in (lambda: asked.guess(5), lambda: asked.guess(4)):
        with pytest.raises(ArgumentError, match=r"locked \(you said 4\): run the cell"):
            late()
    assert asked.value == 4


def test_a_result_closes_the_question() -> None:
    asked = Prediction("How many?")
    found = asked.reveal(7)
    assert (found.guess, found.verdict) == (None, "it was 7; no guess was made")
    with pytest.raises(ArgumentError, match="the result is out"):
        asked.guess(7)
    assert asked.reveal(8).verdict == "it was 8; no guess was made"  # the cell of the result runs again


@pytest.mark.parametrize(
    ("guess", "result", "verdict"),
    [
        (40, 9, "0.23 of your guess"),
        (10, 25.0, "2.5 times your guess"),
        (20, 21, "right, or nearly"),
        (0, 0, "right, or nearly"),
        (0, 3, "3 apart"),
        (-1, 2, "3 apart"),
    ],
)
def test_numbers_are_compared_as_sizes(guess: float, result: float, verdict: str) -> None:
    asked = Prediction("How many?")
    asked.guess(guess)
    assert asked.reveal(result).verdict.endswith(verdict)


def test_options_are_right_or_not() -> None:
    options = ("faster", "equal", "slower")
    for guess, word in (("slower", "right"), ("faster", "something else")):
        asked = Prediction("Is it faster?", options=options)
        asked.guess(guess)
        assert asked.reveal("slower").verdict == f"you said {guess}, it was slower: {word}"
    asked = Prediction("Is it faster?", options=options)
    with pytest.raises(ArgumentError, match="unknown option 'fast': did you mean 'faster'"):
        asked.guess("fast")
    assert not asked.locked


@pytest.mark.parametrize("value", ["many", None, float("nan"), float("inf"), [1]])
def test_what_is_no_number_is_refused(value: Any) -> None:
    asked = Prediction("How many?")
    with pytest.raises(ArgumentError, match="is no number"):
        asked.guess(value)
    assert not asked.locked
    with pytest.raises(ArgumentError, match=r"is no number|no result"):
        asked.reveal(value)
    assert not asked.locked


@pytest.mark.parametrize(
    "settings",
    [
        {"low": 1}, {"low": 2, "high": 1}, {"options": ["a"]}, {"options": ["a", "a"]},
        {"options": ["a", "b"], "low": 0, "high": 1},
    ],
)  # fmt: skip
def test_questions_that_cannot_be_asked(settings: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        Prediction("How many?", **settings)
    with pytest.raises(ArgumentError, match="ask something"):
        Prediction(" ")


def test_the_guess_is_drawn_beside_every_result() -> None:
    asked = Prediction("What <is> it?", answer="Because `x < y`.\n\nSo it is.", unit="x")
    asked.guess(20)
    found = asked.reveal(magnitude=52.5, wanda=24.0)
    page = found.to_html()
    assert page.count("<circle") == 2
    for words in ("your guess 20 x", "magnitude 52.5 x", "wanda 24 x", "<details><summary>", "<code>x &lt; y</code>"):
        assert words in page
    assert "<is>" not in page
    assert "Because" in found.to_text()
    assert found.to_text().count("Magnitude: you said 20 x") == 1
    assert found.verdict.startswith("magnitude: you said 20 x, it was 52.5 x: 2.6 times your guess; wanda: ")


def places(picture: str) -> list[float]:
    return [float(x) for x in re.findall(r'<path d="M([\d.]+) \d+V', picture)]


def test_the_scale_keeps_order_and_proportions() -> None:
    marks = {"a": 10.0, "b": 20.0, "c": 40.0}
    x = places(scale(None, marks, title="t"))
    assert x[2] - x[1] == pytest.approx(2 * (x[1] - x[0]), abs=0.3)
    assert x[0] - 34 == pytest.approx(x[1] - x[0], abs=0.3)  # the line begins at nothing
    x = places(scale(1.0, {"b": 10.0, "c": 100.0}, title="t"))
    assert x[2] - x[1] == pytest.approx(x[1] - x[0], abs=0.3)  # logarithmic
    assert len(places(scale(5, {"only": 5.0}, title="t"))) == 2


def test_an_answer_has_paragraphs_code_and_emphasis() -> None:
    page = folded("Why?", "small *and* fast: `a * b * c`\n\n2 * 3 * 4 <b>")
    assert page == (
        "<details><summary>Why?</summary><p>small <em>and</em> fast: <code>a * b * c</code></p>"
        "<p>2 * 3 * 4 &lt;b&gt;</p></details>"
    )


def test_the_view_holds_no_state_of_its_own() -> None:
    view = workbench.predict("How many?", low=1, high=64)
    assert isinstance(view, Predict)
    view._heard(view, {"guess": 40}, [])
    assert (view.prediction.value, view.value, view.locked) == (40, 40, True)
    view._heard(view, {"guess": 41}, [])
    assert (view.value, view.error) == (40, view.error)
    assert "locked" in view.error
    found = view.reveal(9)
    assert view.verdict == found.verdict
    assert view.error == ""
    bundle = view._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "Your guess: 40" in data["text/html"]
    assert data["text/plain"] == "How many? Your guess: 40"


def test_an_option_from_the_front_end_and_one_from_nowhere() -> None:
    view = workbench.predict("Which?", options=["a", "b"])
    view._heard(view, {"guess": "c"}, [])
    assert not view.locked
    assert "unknown option 'c'" in view.error
    view._heard(view, {"guess": "a"}, [])
    assert (view.value, view.error) == ("a", "")
    assert "a · b" in view.static_html()


def test_a_saved_page_takes_no_guesses(tmp_path: Path) -> None:
    page = workbench.predict("Which </script>?", options=["a", "b"]).to_html(tmp_path / "p.html")
    assert '"locked": true' in page
    assert "Which </script>" not in page


def test_javascript() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    done = subprocess.run(
        [node, "--test", str(ROOT / "widgets" / "tests-js" / "predict.test.mjs")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
