"""The page: its structure, what is escaped, and how it looks in a browser."""

from __future__ import annotations

import io
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

from squeezeedge.errors import UsageError
from squeezeedge.evaluation.answers import Ranked
from squeezeedge.evaluation.page.findings import Findings
from squeezeedge.evaluation.page.render import render, write_report
from tests.evaluation.page.browser import CHROMIUM, open_page
from tests.evaluation.page.conftest import HOSTILE

COMMAND = ("squeezeedge", "report", "net-cpu", "it's a $net", "-o", "r.html")
EMPTY = {"meta", "link", "img", "input", "path", "rect"}


class Parsed(HTMLParser):
    """Elements of a page, whose nesting is checked, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY:
            assert self.open.pop() == tag
        self.text += " " * (tag in ("td", "th", "dd", "dt"))

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


@pytest.fixture
def page(findings: Findings) -> str:
    return render(findings, COMMAND, date=datetime(2024, 5, 6, 7, 8, tzinfo=UTC))


def test_what_it_says(page: str) -> None:
    parsed = Parsed(page)
    words = " ".join(parsed.text.split())
    for text in (
        "cpu (hardware): every class sum equals the oracle's on 40 images.",
        "vta-sim (simulator): 17 of 400 class sums differ from the oracle's, by at most 123; 1 of 40 images gets",
        "cpu: 3 of 40 images get another class than fp32; right before and wrong now: 2,",
        "right before and wrong now: 2, wrong before and right now: 1.",
        "vta-sim: 4 of 40 images get another class than fp32; right before and wrong now: 3",
        "4 images get another class than fp32's.",
        "2024-05-06 07:08 UTC",
        "squeezeedge report net-cpu 'it'\"'\"'s a $net' -o r.html",
        "By the simulator's clock, not measured on hardware",
        "vta-sim (simulator): 40,000 cycles",
        "fp32: 4 bytes a parameter 10,000 1.0",
        "what cpu loads 2,500 4.0",
        "isa=avx2",
        "weight file net.pth",
        "board user@board",
        "numpy, compiled with 1.2.3",
    ):
        assert text in words, text
    assert "/secret" not in page
    assert parsed.elements["img"] == 4 and parsed.elements["table"] >= 8
    headings = re.findall(r"<h2[^>]*>([^<]*)", page)
    assert headings == [
        *("Summary", "Parity", "Accuracy by class", "Images whose answer changed", "Latency", "Layers"),
        *("Where the time goes", "Sizes", "Versions, machine, how to reproduce"),
    ]


def test_nothing_is_loaded_and_no_script_runs(page: str) -> None:
    parsed = Parsed(page)
    assert not parsed.elements["script"]
    for _, name, value in parsed.attributes:
        assert not name.startswith("on")
        if name in ("src", "href"):
            assert value.startswith("data:")
    assert "url(" not in page and "@import" not in page and "default-src 'none'" in page


def test_hostile_names_are_text(page: str) -> None:
    text = Parsed(page).text
    for name in HOSTILE:
        assert name in text
    for name in ("<script", "<img src=x", "net<b>", "data <b>", "<u>", "<x>", "<i>.so", "onload=alert(3)>"):
        assert name not in page


def test_what_is_not_known_is_said(findings: Findings) -> None:
    answers, dataset = findings.evaluation.answers, findings.evaluation.dataset
    assert answers is not None and dataset is not None
    bare = replace(
        findings,
        evaluation=replace(
            findings.evaluation,
            answers=replace(answers, labels=None, fp32=None),
            dataset=replace(dataset, labels=None),
        ),
        noise=None,
        profiles=(),
        parameters=None,
    )
    words = " ".join(Parsed(render(bare)).text.split())
    assert "The images have no labels, so no accuracy is known." in words
    assert "The float network is not known here" in words and "Nothing is known of <x>." in words
    assert "Where the time goes" not in words and "SQNR dB" not in words.partition("Layers")[2]
    assert "times smaller" not in words and "<pre" not in render(bare)


@pytest.mark.slow
def test_a_thousand_classes_and_all_images_changed(findings: Findings) -> None:
    """What is shown is bounded: 24 pictures; the classes that are worst, and the others folded away."""
    answers, dataset = findings.evaluation.answers, findings.evaluation.dataset
    assert answers is not None and dataset is not None
    count = 2000
    labels = np.arange(count) % 1000
    fp32 = Ranked(labels, np.full(count, 0.5, np.float32))
    device = Ranked((labels + 1) % 1000, fp32.scores)
    names = tuple(f"class {number}" for number in range(1000))
    images = np.random.default_rng(0).integers(0, 256, (count, 12, 12, 3), np.uint8)
    many = replace(
        findings,
        graph=replace(findings.graph, labels=()),
        evaluation=replace(
            findings.evaluation,
            answers=replace(answers, places=np.arange(count), labels=labels, fp32=fp32, devices=(device, device)),
            dataset=replace(dataset, images=images, labels=labels, classes=names),
        ),
    )
    page = render(many)
    parsed = Parsed(page)
    assert parsed.elements["img"] == 24 and "980 more classes" in parsed.text
    assert "2000 images get another class than fp32's; 24 of them are shown" in parsed.text
    assert "class 999" in parsed.text and len(page) < 700_000


def test_a_file_that_is_there_or_not(findings: Findings, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(findings, path, COMMAND)
    content = path.read_bytes()
    assert content.startswith(b"<!doctype html>") and b"half \\udce9" in content
    with pytest.raises(UsageError, match="exists already"):
        write_report(findings, path)
    assert path.read_bytes() == content
    write_report(findings, path, force=True)
    assert path.read_bytes() != content


@pytest.mark.slow
@pytest.mark.tool
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_in_a_browser(findings: Findings, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(findings, path, COMMAND)
    levels: dict[str, int] = {}
    with open_page() as page:
        for width, scheme in ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")):
            page.visit(path.as_uri(), width, scheme=scheme)
            size = page.value("[document.documentElement.scrollWidth, innerWidth]")
            assert size == [width, width], f"{scheme}: something is wider than the window"
            if (width, scheme) in ((1280, "light"), (390, "dark")):
                with Image.open(io.BytesIO(page.screenshot())) as picture:
                    assert picture.width == width and picture.height > 1500
                    colors = cast("list[tuple[int, tuple[int, ...]]]", picture.convert("RGB").getcolors(1 << 24))
                    assert len(colors) > 50 and max(colors)[0] < 0.97 * picture.width * picture.height
                    levels[scheme] = max(colors)[1][0]
        page.value("document.getElementById('light').click()")
        assert page.value("getComputedStyle(document.documentElement).colorScheme") == "light"
        assert page.value("document.title") == 'net<b>&": deployment report'
        assert page.pdf().startswith(b"%PDF")
        assert page.problems == []
        # what the test would see
        page.value(
            "document.body.append(Object.assign(document.createElement('div'), {style: 'width: 2000px; height: 9px'}))"
        )
        assert page.value("document.documentElement.scrollWidth") >= 2000
        page.value("console.error('seen')")
        page.value("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/'}))")
        assert len(page.problems) >= 2
    assert levels["light"] > 200 and levels["dark"] < 60
