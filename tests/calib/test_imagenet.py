"""ImageNet's 1000 classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from squeezeedge.calib.imagenet import imagenet_classes
from squeezeedge.calib.labels import WORDNET_ID

RENAMED = {134: "crane", 264: "Cardigan", 517: "crane", 639: "maillot"}
"""Class -> WordNet's name, which another class has, too."""


def test_a_thousand_different_names_in_the_order_of_their_ids() -> None:
    classes = imagenet_classes()
    assert len(classes.keys) == len({name.casefold() for name in classes.names}) == 1000
    assert list(classes.keys) == sorted(classes.keys) and all(map(WORDNET_ID.fullmatch, classes.keys))
    assert classes.names[0] == "tench" and classes.names[281] == "tabby" and classes.names[999] == "toilet tissue"


@pytest.mark.shared
def test_beside_another_list(shared_file: Callable[[str], Path]) -> None:
    others = json.loads(shared_file("data/imagenet_classes.json").read_text())
    classes = imagenet_classes()
    assert [key for key, _ in others] == list(classes.keys)
    different = {index: name for index, (_, name) in enumerate(others) if name != classes.names[index]}
    assert different == RENAMED
