"""The integer network of a training run: made of a float one, trained, gone on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from squeezeedge.calib.datasets import Dataset
from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.graph.sqe import GOLDEN_IMAGES, read_recorded, read_sqe
from squeezeedge.loading import load
from squeezeedge.quantization.qat_form import new_form, resumed_form
from squeezeedge.training.distributed import World
from squeezeedge.training.recipe import Input, Recipe
from squeezeedge.training.start import START, train
from squeezeedge.training.train import Form
from tests.calib.images import png, write_folder
from tests.training.tiny import bright_or_dark, changed


@pytest.fixture
def data(tmp_path: Path) -> str:
    torch.set_num_threads(1)
    for split, value in (("train", 0), ("test", 5)):
        write_folder(tmp_path / "data" / split, {f"dark/{i}.png": png(value + 10 * i) for i in range(3)})
        write_folder(tmp_path / "data" / split, {f"light/{i}.png": png(value + 200 + 10 * i) for i in range(3)})
    return str(tmp_path / "data")


@pytest.mark.slow
def test_an_integer_network_is_trained_and_goes_on(tmp_path: Path, data: str) -> None:
    recipe = changed(epochs=1, input=Input("digits", size=40, first_size=24, cache=40))
    first = train(recipe, data, tmp_path / "float", workers=0)
    assert first.result.finished
    out, sizes = tmp_path / "int8", []

    def fresh(recipe: Recipe, learned: Dataset, classes: tuple[str, ...]) -> Form:
        sizes.append(recipe.input.first_size)
        floating = load(tmp_path / "float" / "best.safetensors").floating
        assert floating is not None
        return new_form(recipe, floating, learned, classes, out, World())

    outcome = train(recipe, data, out, make_form=fresh, workers=0)
    assert outcome.suffix == ".sqe" and sizes == [0], "an integer network is of one size"
    assert read_sqe(out / "best.sqe").digest() != read_sqe(out / START).digest()
    record = read_recorded(out / "best.sqe")[1]
    assert record is not None and record.golden is not None and len(record.golden) <= GOLDEN_IMAGES
    assert record.calibrated_on, "the images that it was first quantized on"
    resumed = resumed_form(recipe, out)
    assert resumed.suffix == ".sqe"
    resumed.write(out / "again.sqe", resumed.module)
    again = read_recorded(out / "again.sqe")[1]
    assert again is not None and again.calibrated_on == record.calibrated_on
    (out / "again.sqe").unlink()
    with pytest.raises(UsageError, match="another input than the recipe's"):
        resumed_form(replace(recipe, input=Input("digits", size=48)), out)
    with pytest.raises(UsageError, match="the run in it is one with `qat`"):
        train(recipe, data, out, resume=True)
    with pytest.raises(UsageError, match="no such file, so the run in"):
        resumed_form(recipe, tmp_path / "float")


@pytest.mark.slow
def test_a_network_of_other_classes_is_refused(tmp_path: Path) -> None:
    floating = load(size=40).floating
    assert floating is not None
    with pytest.raises(SqueezeEdgeError, match="has 10 classes, the images have 2; `qat` trains no new layer"):
        new_form(changed(), floating, bright_or_dark(4), ("dark", "bright"), tmp_path / "run", World())
    assert not (tmp_path / "run").exists()
