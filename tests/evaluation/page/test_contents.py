"""What the page says, before it is a page."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from squeezeedge.calib.decode import EncodedImage
from squeezeedge.evaluation.page.contents import page_of
from squeezeedge.evaluation.page.findings import Findings


def test_images_that_become_wrong_are_first(findings: Findings) -> None:
    page = page_of(findings, (), "today")
    assert page.all_changed == len(page.changed) == 4 and page.groups == ("cpu", "vta-sim")
    assert [tuple(guess.right for guess in image.guesses) for image in page.changed][-1] == (False, True, True)
    assert {tuple(guess.right for guess in image.guesses) for image in page.changed[:3]} == {
        (True, False, False),
        (True, True, False),
    }
    assert all(50 <= guess.percent <= 100 for image in page.changed for guess in image.guesses)
    assert page.changed[-1].name == "image 2" and page.changed[-1].label == findings.graph.labels[2]


def test_an_image_s_file_is_named_without_its_place(findings: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = findings.evaluation.dataset
    assert dataset is not None
    images = [EncodedImage("/secret/data.tar", "root/cat/1.jpg", 0, 5), EncodedImage("/secret/val/dog/2.jpg")] * 20
    monkeypatch.setattr(type(dataset), "load", lambda self, preprocessing, indices: np.zeros((4, 12, 12, 3), np.uint8))
    named = replace(findings, evaluation=replace(findings.evaluation, dataset=replace(dataset, images=images)))
    assert {image.name for image in page_of(named, (), "").changed} == {"cat/1.jpg", "dog/2.jpg"}


def test_figures_of_the_summary(findings: Findings) -> None:
    figures = {figure.name: (figure.value, figure.beside) for figure in page_of(findings, (), "").summary}
    assert figures["top-1 accuracy"] == ("70.00 %", "fp32 71.00 %")
    assert figures["same class as fp32"] == ("95.00 %", "3 images changed")
    assert figures["latency, vta-sim"] == ("1.500 ms", "median, simulator")


def test_layers_have_their_noise_and_cost(findings: Findings) -> None:
    first, head = page_of(findings, (), "").layers
    assert (first.name, first.sqnr_db, first.bar, first.saturated) == ("first", 33.5, 1.0, "1.00")
    assert head.sqnr_db is None and head.operator.startswith("head") and first.macs == f"{16 * 27 * 25 / 1e6:.1f}"
    assert page_of(replace(findings, noise=None), (), "").layers[0].error == "-"


def test_shares_and_colours_of_a_profile(findings: Findings) -> None:
    (view,) = page_of(findings, (), "").profiles
    assert view.shares == (0.25, 0.75, None) and view.colors == (0, 1, None)
    assert [row[0] for row in view.grid.rows] == ["first", "second", "whole network"]


def test_words_of_a_program(findings: Findings) -> None:
    told = replace(findings, unknown=("give `weights`",))
    assert "give --weights" in page_of(told, (), "", lambda text: text.replace("`weights`", "--weights")).remarks
