"""Checkpoints of networks that read BGR, or images that are normalized in another way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from squeezeedge.calib.preprocess import DIGITS, IMAGENET
from squeezeedge.calib.statement import Statement
from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.networks import registry
from squeezeedge.networks.checkpoints import Checkpoint
from squeezeedge.networks.image_input import read_rgb, renormalize, stated_of
from squeezeedge.networks.registry import NETWORKS, build

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)


class Two(nn.Module):
    """Two convolutions read the image, a third one does not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.last(self.first(x) + self.second(x)).mean((2, 3))
        return result


@pytest.mark.parametrize("module", [Two(), build("squeezenet1_1", 5).eval()])
def test_weights_for_rgb_and_another_normalization(module: nn.Module) -> None:
    x = torch.from_numpy(IMAGENET.normalize(PIXELS))
    with torch.no_grad():
        expected = module(x)
        read_rgb(module, (32, 32))
        torch.testing.assert_close(module(x.flip(1)), expected)
        renormalize(module, (32, 32), replace(IMAGENET, mean=IMAGENET.mean[::-1], std=IMAGENET.std[::-1]), DIGITS)
        torch.testing.assert_close(
            module(torch.from_numpy(DIGITS.normalize(PIXELS[..., ::-1]))), expected, rtol=1e-4, atol=1e-4
        )


def test_what_is_stated_of_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, name = tmp_path / "net.pth", "squeezenet1_1"
    assert stated_of(path, name, Checkpoint({})).assumption.startswith("assuming RGB, ImageNet mean")
    published = (NETWORKS[name].url or "").rpartition("-")[2].partition(".")[0] + "0" * 56
    known = stated_of(path, name, Checkpoint({}), published)
    assert known.assumption == "" and known.sources["std"] == "published weights of squeezenet1_1"
    assert registry.is_published(name, published) and not registry.is_published("squeezenet1_1_mindcv", published)
    checkpoint = Checkpoint({}, {"preprocessing": json.dumps(DIGITS.to_json())})
    own = stated_of(path, name, checkpoint)
    assert (own.preprocessing, own.assumption, own.sources["mean"]) == (
        DIGITS,
        "",
        "metadata of net.pth (preprocessing)",
    )
    assert stated_of(path, name, checkpoint, size=64).preprocessing.size == (64, 64)
    (tmp_path / "net.preprocessing.toml").write_text('channel_order = "bgr"')
    assert stated_of(path, name, Checkpoint({})).channel_order == "bgr"
    with pytest.raises(SqueezeEdgeError, match=r"net\.pth: .*contradictory: .* says channel_order rgb, but net\.prep"):
        stated_of(path, name, checkpoint)
    assert stated_of(path, name, checkpoint, given=Statement(channel_order="bgr")).channel_order == "bgr"
