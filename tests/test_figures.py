"""Plotly charts of results: the same numbers, the project's colours, nothing that leaves the machine."""

from __future__ import annotations

import dataclasses
import re
from types import SimpleNamespace

import numpy as np
import pytest

from workbench import render
from workbench.attention.patterns.curves import PatternCurves
from workbench.errors import ArgumentError
from workbench.execute._pictures import roofline_figure
from workbench.figures import CONFIG, Chart
from workbench.results import Provenance
from workbench.session.compared import Compared, ComparedRow

DENSE = ComparedRow(0, "dense", 10.0, 1, 1, 1, 100, 100, 400_000_000, 1, 1, 40, float("nan"), 0, False)


def compared() -> Compared:
    worse = dataclasses.replace(DENSE, number=1, name="1: wanda 50 %", perplexity=20.0, ratio=2.0)
    faster = dataclasses.replace(worse, number=2, name="2: compiled", decode=4.0, weight_bytes=100_000_000)
    unknown = dataclasses.replace(worse, number=3, name="3: not timed", decode=float("nan"))
    return Compared((DENSE, worse, faster, unknown), Provenance.here())


def test_the_comparison_as_a_figure():
    chart = compared().figure()
    front, others = chart.data
    assert (front.text, front.x, front.y) == (("0", "2"), (1, 4.0), (1, 2.0))
    assert (others.text, others.x) == (("1",), (1,))
    assert chart.layout.xaxis.type == "log"
    assert [t.x for t in compared().figure("weight_bytes").data] == [(400.0, 100.0), (400.0, 400.0)]
    with pytest.raises(ArgumentError, match="against"):
        compared().figure("speed")


def test_a_notebook_gets_no_button_that_sends_data_away():
    from IPython.core.interactiveshell import InteractiveShell

    formatter = InteractiveShell.instance().display_formatter
    data, _ = formatter.format(compared().figure())  # empty where an object shows itself
    assert data["application/vnd.plotly.v1+json"]["config"] == CONFIG
    assert "sendChartToCloud" in CONFIG["modeBarButtonsToRemove"]
    assert "<svg" in data["text/html"]
    assert "<script" not in data["text/html"]
    assert len(str(data)) < 30_000


def test_a_page_of_a_figure_needs_no_network():
    page = compared().figure().to_html()
    assert "sendChartToCloud" in page[-3000:]
    assert not re.findall(r"<script[^>]*\bsrc=", page)


def test_lines_are_told_apart_without_colours():
    chart = Chart("title", "x", "y")
    for n in range(9):
        chart.line(str(n), [0, 1], [n, n], n=n)
    assert len({(t.line.color, t.line.dash, t.marker.symbol) for t in chart.data}) == 9
    assert {t.line.color for t in chart.data} == set(render.OKABE_ITO)
    assert np.isclose(chart.data[3].y, 3).all()


def test_the_roofline_as_a_figure():
    roof = SimpleNamespace(fp32=100.0, bf16=200.0, int8=400.0, dram=10.0, cache_l3=20.0, cache_l2=50.0)
    row = SimpleNamespace(name="bitmap-int8", tokens=1, intensity=2.0, gflops=15.0, ratio=3.0, computes="int8")
    chart = roofline_figure("a layer", [row, SimpleNamespace(**{**vars(row), "tokens": 16, "intensity": 9.0})], roof)
    assert [t.name for t in chart.data] == ["fp32 peak", "int8 peak", "bitmap-int8"]
    for rule in chart.data[:2]:  # bandwidth times intensity up to the ridge, flat behind it
        assert np.allclose(rule.y, np.minimum(np.array(rule.x) * roof.dram, max(rule.y)))
    assert chart.data[2].x == (2.0, 9.0)


def test_curves_as_a_figure():
    points = [
        SimpleNamespace(name=n, budget=b, recall=r, cost=b, divergence=d)
        for n, b, r, d in (("a", 0.3, 0.8, 0.1), ("a", 0.7, 0.9, float("nan")), ("b", 0.3, 0.6, 0.2))
    ]
    curves = PatternCurves("tiny", 128, 1.0, tuple(points), Provenance.here())  # type: ignore[arg-type]
    assert [(t.name, t.x, t.y) for t in curves.figure().data] == [("a", (0.3, 0.7), (0.8, 0.9)), ("b", (0.3,), (0.6,))]
    assert [t.x for t in curves.figure("divergence").data] == [(0.1,), (0.2,)]
