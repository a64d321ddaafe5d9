"""A question that takes one guess: a thin view over `workbench.lessons.Prediction`."""

from __future__ import annotations

import html
from typing import Any

import traitlets as t

from workbench.errors import ArgumentError
from workbench.lessons import Observation, Prediction
from workbench.lessons.predicting import said
from workbench_widgets._base import View, join_modules, join_sheets


def predict(question: str, **settings: Any) -> Predict:
    """Ask for a guess before the result is known.

    Parameters
    ----------
    question, settings
        As of `workbench.lessons.Prediction`: ``answer``, ``options``, ``unit``, ``low``, ``high``.

    Examples
    --------
    >>> asked = workbench.predict("What will the perplexity be?", low=10, high=500)    # doctest: +SKIP
    >>> asked.reveal(quality.perplexity)                                              # doctest: +SKIP
    """
    return Predict(Prediction(question, **settings))


class Predict(View):
    """The widget.

    Parameters
    ----------
    prediction
        What is asked; it holds the guess and does the checking.
    """

    _esm = join_modules("dom.js", "predict.js")
    _css = join_sheets("predict.css")

    question = t.Unicode("").tag(sync=True)
    options = t.List(t.Unicode()).tag(sync=True)
    unit = t.Unicode("").tag(sync=True)
    ends = t.List(t.Float()).tag(sync=True)
    value = t.Any(None, allow_none=True).tag(sync=True)
    locked = t.Bool(False).tag(sync=True)
    verdict = t.Unicode("").tag(sync=True)
    error = t.Unicode("").tag(sync=True)

    def __init__(self, prediction: Prediction) -> None:
        self.prediction = prediction
        ends = [] if prediction.low is None or prediction.high is None else [prediction.low, prediction.high]
        super().__init__(
            question=prediction.question, options=list(prediction.options or ()), unit=prediction.unit, ends=ends
        )
        self.on_msg(self._heard)
        self._show()

    def guess(self, value: float | str) -> None:
        """Settle the guess from Python; see `workbench.lessons.Prediction.guess`."""
        self.prediction.guess(value)
        self._show()

    def reveal(self, result: Any = None, **named: Any) -> Observation:
        """Say what came out; see `workbench.lessons.Prediction.reveal`."""
        found = self.prediction.reveal(result, **named)
        self._show()
        return found

    def _heard(self, _: Any, content: dict[str, Any], __: Any) -> None:
        try:
            self.guess(content.get("guess", ""))
        except ArgumentError as error:
            self.publish(error=str(error))

    def _show(self) -> None:
        asked = self.prediction
        verdict = asked.observation.verdict if asked.observation is not None else ""
        self.publish(value=asked.value, locked=asked.locked, verdict=verdict, error="")
        self.redraw_static()

    def static_text(self) -> str:
        """The question, and what became of it."""
        asked = self.prediction
        return f"{asked.question} Your guess: {said(asked.value, asked.unit)}"

    def static_html(self) -> str:
        """The question with its guess, without scripts."""
        asked = self.prediction
        choices = f"<br>{html.escape(' · '.join(asked.options))}" if asked.options else ""
        guess = html.escape(said(asked.value, asked.unit))
        return f"<p><strong>{html.escape(asked.question)}</strong>{choices}<br>Your guess: {guess}</p>"

    def frozen(self) -> dict[str, Any]:
        """A saved page takes no guesses."""
        return {"locked": True}
