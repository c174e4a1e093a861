"""The network's tensors among what training scripts save: any wrapper, prefix, average and training state."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from squeezeedge.errors import CorruptFileError, UsageError
from squeezeedge.networks.checkpoints import contents
from squeezeedge.networks.checkpoints.contents import Choice, choose
from squeezeedge.networks.checkpoints.record import Contents, Place
from squeezeedge.networks.registry import build

FILE = Path("a.pth")
WRAPPERS = "state_dict model model_state_dict net network params module checkpoint weights best".split()
EMA = "state_dict_ema model_ema ema params_ema ema_state_dict".split()
PREFIXES = "module model _orig_mod backbone network net encoder student".split()


@cache
def shapes() -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in build("squeezenet1_1", 3).state_dict().items()}


def state(prefix: str = "", fill: float = 1.0) -> dict[str, Tensor]:
    """Of a whole network, without memory."""
    return {f"{prefix}{name}": torch.full((1,), fill).expand(shape) for name, shape in shapes().items()}


def chosen(tensors: dict[Place, dict[str, Tensor]], *, ema: bool = False) -> Choice:
    return choose(FILE, "a file", Contents(tensors), ema)


def is_network(choice: Choice, fill: float = 1.0) -> bool:
    found = choice.state
    return found.keys() == shapes().keys() and all(
        float(tensor[(0,) * tensor.ndim]) == fill for tensor in found.values()
    )


SEGMENTS = st.lists(st.sampled_from(WRAPPERS), max_size=4).map(tuple)
DOTTED = st.lists(st.sampled_from(PREFIXES), max_size=4).map(lambda parts: "".join(f"{part}." for part in parts))


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(place=SEGMENTS, prefix=DOTTED, other=DOTTED, average=st.sampled_from(EMA), ema=st.booleans())
def test_any_wrapper_and_prefix(place: Place, prefix: str, other: str, average: str, ema: bool) -> None:
    """The classifier under another prefix than the rest, and the average beside it."""
    mixed = {(other if name.startswith("classifier") else prefix) + name: tensor for name, tensor in state().items()}
    choice = chosen({place: mixed, (*place[:-1], average): state(prefix, 2.0)}, ema=ema)
    assert is_network(choice, 2.0 if ema else 1.0) and choice.averaged == ema
    assert is_network(chosen({place: mixed})) and not chosen({place: mixed}).notes


@pytest.mark.parametrize("prefix", [f"{prefix}." for prefix in PREFIXES])
@pytest.mark.parametrize("wrapper", [*WRAPPERS, *EMA])
def test_every_wrapper_with_every_prefix(wrapper: str, prefix: str) -> None:
    names = [f"{prefix}{name}" for name in ("features.0.weight", "features.3.squeeze.weight", "classifier.1.bias")]
    found = chosen({("checkpoint", wrapper): {name: torch.ones(1) for name in names}}).state
    assert list(found) == [name.removeprefix(prefix) for name in names]


@pytest.mark.parametrize("ema", [False, True])
def test_which_of_weights_and_average_was_taken_is_said(ema: bool) -> None:
    choice = chosen({("model",): state(), ("model_ema", "state_dict"): state("module.", 2.0)}, ema=ema)
    (note,) = choice.notes
    assert note.startswith(
        "a.pth: holds weights, 'model', and their moving average (EMA), 'model_ema.state_dict.module'"
    )
    taken = "'model_ema.state_dict.module' was taken (without `ema`, the weights)"
    assert note.endswith(f"; {taken}" if ema else "; 'model' was taken (`ema` takes the average)")


def test_an_average_alone_is_taken() -> None:
    for ema in (False, True):
        choice = chosen({("ema",): state()}, ema=ema)
        assert is_network(choice) and not choice.averaged, "there is no choice to remember"
        assert choice.notes == ("a.pth: holds a moving average (EMA) of weights only, 'ema', which was taken",)
    with pytest.raises(UsageError, match=r"a\.pth: holds no moving average .* leave out `ema`"):
        chosen({(): state()}, ema=True)


def test_other_names_than_a_networks_here() -> None:
    """Then the message needs them as they are, less the wrappers and the common prefixes."""
    plain = {"a.weight": torch.ones(2), "b": torch.ones(1)}
    several: list[dict[Place, dict[str, Tensor]]] = [
        {("state_dict",): {f"module.model.{name}": tensor for name, tensor in plain.items()}},
        {("net",): plain, ("stats",): {str(index): torch.ones(1) for index in range(9)}},
        {(): plain, ("optimizer", "state", "0"): {f"exp{index}": torch.ones(1) for index in range(9)}},
    ]
    for tensors in several:
        assert chosen(tensors).state.keys() == plain.keys()
    pair: dict[Place, dict[str, Tensor]] = {
        ("state_dict",): plain,
        ("state_dict_ema",): {name: 2 * tensor for name, tensor in plain.items()},
    }
    assert chosen(pair).state["b"] == 1 and chosen(pair, ema=True).state["b"] == 2
    keys = {"model.a": torch.ones(1), "model": torch.ones(1)}
    assert chosen({(): keys}).state.keys() == keys.keys(), "not all have the prefix"


def test_counters_are_nothing() -> None:
    counters = ("features.1.num_batches_tracked", "n_averaged", "total_ops", "features.0.total_params")
    choice = chosen({(): state("module.") | {name: torch.tensor(3) for name in counters}})
    assert is_network(choice) and not choice.notes


def test_training_state_beside_the_network_is_ignored_with_one_line() -> None:
    beside = {f"{name}.features.0.weight": torch.ones(2) for name in ("moments", "accum", "adam_m", "optimizer")}
    beside |= {name: torch.ones(1) for name in ("learning_rate", "global_step", "momentum", "beta1_power")}
    choice = chosen({(): state("network.") | beside | {"criterion.weight": torch.ones(3)}})
    assert is_network(choice)
    assert choice.notes == (
        "a.pth: 9 tensors beside the network's ignored (moments.*, accum.*, adam_m.*, optimizer.*, ...)",
    )


def test_other_layers_of_the_network_are_not_ignored() -> None:
    """Without them another network would be loaded."""
    more = {"model.features.13.squeeze.weight": torch.ones(64, 512, 1, 1), "model.features.1.weight": torch.ones(1)}
    choice = chosen({("state_dict",): state("model.") | more | {"criterion.weight": torch.ones(3)}})
    assert choice.state.keys() - shapes().keys() == {name.removeprefix("model.") for name in more}


def test_several_networks() -> None:
    choice = chosen({("student",): state(), ("teacher",): state("", 2.0)})
    assert is_network(choice)
    assert choice.notes == ("a.pth: holds several networks' weights ('student', 'teacher'); 'student' was taken",)


def test_what_is_no_plain_tensor() -> None:
    others: dict[Place, dict[str, str]] = {(): {"features.0.weight": "made by 'x'"}}
    found = state()
    del found["features.0.weight"]
    with pytest.raises(CorruptFileError, match=r"entry 'features\.0\.weight' is made by 'x', not a plain tensor"):
        choose(FILE, "a file", Contents({(): found}, others=others))


def test_more_elements_than_a_file_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MAX_BYTES", 4000)
    with pytest.raises(CorruptFileError, match=r"a\.pth: .*its tensors have more than 1000 elements"):
        chosen({(): {str(index): torch.ones(1).expand(600) for index in range(2)}})


def test_nothing() -> None:
    empty: list[dict[Place, dict[str, Tensor]]] = [{}, {("optimizer",): {"a": torch.ones(1)}}]
    for tensors in empty:
        with pytest.raises(CorruptFileError, match=r"a\.pth: holds no weights"):
            chosen(tensors)
