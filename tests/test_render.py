"""The static pictures: escaped, well-formed, stating their numbers, in text and HTML alike."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from xml.etree import ElementTree as ET

import numpy as np
import plotly.colors
import pytest

from workbench import render
from workbench.errors import ArgumentError

NASTY = '<script>alert("1")</script> & "quotes"'


def parse(markup: str) -> ET.Element:
    assert "<script" not in markup
    return ET.fromstring(f"<root>{markup}</root>")


def words(markup: str) -> str:
    return " ".join("".join(parse(markup).itertext()).split())


@pytest.mark.parametrize(
    "markup",
    [
        render.table([(NASTY, 1, 2.5, None, True)], (NASTY, "n", "x", "y", "z")),
        render.figures({NASTY: NASTY, "n": 3}),
        render.side_by_side(NASTY, NASTY, (NASTY, "after")),
        render.bars([NASTY, "b"], [1.0, float("nan")], title=NASTY, unit=NASTY, low=[0.5, 0], high=[2, 0]),
        render.lines({NASTY: {"x": [1, 2], "y": [3, 4], "low": [2, 3], "high": [4, 5]}}, title=NASTY),
        render.lines({}, title="nothing"),
        render.lines({"one": {"x": [1], "y": [float("inf")]}}, title="one point"),
        render.heatmap_svg([[0.1, np.nan]], [NASTY], ["a", NASTY], title=NASTY),
        render.heatmap_png(np.eye(3), title=NASTY),
        render.heatmap_png(np.full((2, 2), np.nan), title="unknown"),
        render.join(NASTY, [render.prose(NASTY, NASTY)])[1],
    ],
)
def test_markup_is_well_formed_and_escaped(markup: str) -> None:
    parse(markup)


def test_charts_name_themselves_and_their_numbers() -> None:
    svg = parse(render.bars(["wanda", "magnitude"], [19.5, 1234.0], title="Perplexity"))[0]
    assert svg.attrib["role"] == "img"
    assert svg.attrib["aria-label"] == "Perplexity: wanda 19.5; magnitude 1,234"
    chart = parse(render.lines({"dense": {"x": [1, 2], "y": [30.0, 25.5]}}, title="Perplexity"))[0]
    assert chart.attrib["aria-label"] == "Perplexity: dense ends at 25.5"
    assert "currentColor" in chart.attrib["fill"]


def test_bars_are_to_scale() -> None:
    svg = render.bars(["a", "b"], [1.0, 4.0], title="t")
    widths = [float(x) for x in re.findall(r'<rect[^>]*? width="([\d.]+)"', svg)]
    assert widths == [75.0, 300.0]


def test_png_decodes_to_the_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    data = render.png(pixels)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (7, 5)
    at, found = 8, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + body)
        found += body if kind == b"IDAT" else b""
        at += 12 + size
    rows = np.frombuffer(zlib.decompress(found), np.uint8).reshape(5, 22)
    assert not rows[:, 0].any()
    np.testing.assert_array_equal(rows[:, 1:].reshape(5, 7, 3), pixels)
    with pytest.raises(ArgumentError, match="want uint8"):
        render.png(pixels.astype(np.float32))


def test_heatmap_png_holds_a_png() -> None:
    image = parse(render.heatmap_png([[0.0, 0.5], [1.0, np.nan]], title="Sparsity", zoom=4))[0]
    assert image.attrib["alt"] == "Sparsity: 2 x 2, 0 to 1"
    assert (image.attrib["width"], image.attrib["height"]) == ("8", "8")
    assert base64.b64decode(image.attrib["src"].partition(",")[2])[:4] == b"\x89PNG"


def test_cividis_is_plotlys_and_gets_lighter() -> None:
    assert list(render.CIVIDIS) == plotly.colors.sequential.Cividis
    colours = render.cividis(np.linspace(0, 1, 64))
    light = colours @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light) > 0).all()
    np.testing.assert_array_equal(render.cividis([-1.0, 2.0]), render.cividis([0.0, 1.0]))
    assert render.cividis(np.nan).tolist() == [136, 136, 136]


def test_text_and_html_tables_say_the_same() -> None:
    rows, header = [("dense", 134_515_008, 0.5), ("pruned", 7, None)], ("model", "parameters", "share")
    text, markup = render.text_table(rows, header), words(render.table(rows, header))
    for cell in ("dense", "134,515,008", "0.5", "pruned", "7", "-", *header):
        assert cell in text
        assert cell in markup


def test_join_names_every_section_in_both_forms() -> None:
    parts = [render.section("Figures", [("perplexity", 12.5)]), render.prose("Protocol", "a & b")]
    text, markup = render.join("Quality(12.5)", parts)
    for part in parts:
        assert part.title in text
        assert part.title in words(markup)
    assert "Quality(12.5)" in text
    assert "Quality(12.5)" in words(markup)


def test_charts_refuse_what_does_not_fit() -> None:
    with pytest.raises(ArgumentError, match="1 labels for 2 values"):
        render.bars(["a"], [1, 2], title="t")
    with pytest.raises(ArgumentError, match="2 rows and 1 columns"):
        render.heatmap_svg([[1.0]], ["a", "b"], ["c"], title="t")
