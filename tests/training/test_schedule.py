"""Learning rate and image size over a run."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR

from squeezeedge.training.recipe import Input, Schedule
from squeezeedge.training.schedule import image_size, learning_rate_factor
from tests.training.tiny import changed


@pytest.mark.parametrize(("steps", "epochs"), [(7, 3), (19, 30)])
def test_one_cycle_is_torch_s(steps: int, epochs: int) -> None:
    optimizer = SGD([torch.zeros(1, requires_grad=True)], 1.0)
    reference = OneCycleLR(optimizer, 0.7, total_steps=steps * epochs, cycle_momentum=False)
    for step in range(steps * epochs):
        factor = learning_rate_factor(Schedule("one_cycle"), step, steps, epochs)
        assert 0.7 * factor == pytest.approx(reference.get_last_lr()[0], rel=1e-9, abs=1e-12)
        optimizer.step()
        if step + 1 < steps * epochs:
            reference.step()


def test_cosine_with_warmup() -> None:
    factors = [learning_rate_factor(Schedule("cosine", warmup=2), step, 5, 10) for step in range(50)]
    assert factors[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert factors[10] == 1 and factors[30] == pytest.approx(0.5) and 0 < factors[49] < 0.01
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_constant() -> None:
    factors = [learning_rate_factor(Schedule("constant", warmup=0.5), step, 4, 2) for step in range(8)]
    assert factors == [0.5, 1, 1, 1, 1, 1, 1, 1]


@given(st.sampled_from(["one_cycle", "cosine", "constant"]), st.integers(1, 20), st.integers(1, 20), st.data())
def test_any_step_of_any_run_has_a_rate(name: str, steps: int, epochs: int, data: st.DataObject) -> None:
    warmup = 0 if name == "one_cycle" else data.draw(st.floats(0, epochs))
    schedule = Schedule(name, warmup)  # type: ignore[arg-type]
    for step in range(steps * epochs):
        assert 0 < learning_rate_factor(schedule, step, steps, epochs) <= 1


@given(st.integers(17, 300), st.integers(0, 300), st.integers(1, 50))
def test_images_grow_to_their_size(size: int, first: int, epochs: int) -> None:
    first = min(first, size)
    recipe = changed(epochs=epochs, input=Input("digits", size, first_size=first))
    sizes = [image_size(recipe, epoch) for epoch in range(epochs)]
    assert sizes == sorted(sizes) and sizes[-1] == size
    if epochs > 1:
        assert sizes[0] == (first or size)
