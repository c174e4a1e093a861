"""Which of the tensors in a file are the network's: wrappers, prefixes, moving averages and training state.

Training scripts save a state dict under names of their own ("state_dict", "model", "module"), its tensors under
prefixes (``module.`` of DataParallel, ``_orig_mod.`` of torch.compile, ``model.`` of Lightning, ``network.`` of
MindSpore), beside averages of them (EMA) and the optimizer's state. A tensor is the network's where its name ends in
a name of one of the networks here; what is in front of that says whose it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from squeezeedge.errors import UsageError, counted
from squeezeedge.networks.checkpoints.record import MAX_BYTES, Contents, Place, Stored, corrupt, other
from squeezeedge.networks.squeezenet import SqueezeNet
from squeezeedge.networks.variants import VARIANTS

__all__ = ["Choice", "choose"]

PREFIXES = frozenset("module model _orig_mod backbone network net encoder ema model_ema ema_model".split())
WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "network", "params", "module", "weights")
"""Where several mappings hold tensors and none of them known names, these are the network's."""
EMA = re.compile(r"(?:.*_)?ema(?:_.*)?", re.IGNORECASE)
TRAINING = re.compile(
    r"(?:optim|moment|accum|adam|adagrad|lamb_|sched|lr_|scal(?:er|e_sense)|callbacks|loops|criterion|loss|exp_avg|"
    r"grad|velocity|mean_square|learning_rate|weight_decay|global_step|current_iterator|epoch|beta[12]_)",
    re.IGNORECASE,
)
"""First part of the name of training state: of optimizers, schedules and losses of PyTorch, Lightning and MindSpore."""
UNUSED = frozenset("num_batches_tracked total_ops total_params n_averaged _extra_state".split())
"""Last part of the names of counters that modules hold, or that profilers (thop) have left in them."""
LISTED = 4
MINDCV = {"final_conv.weight": "classifier.1.weight", "final_conv.bias": "classifier.1.bias"}
"""The last convolution of MindCV's networks, where it was saved under its own attribute."""

_Leaf = Tensor | Stored


@dataclass(frozen=True)
class Choice:
    """What was chosen of a file's tensors.

    Attributes:
        state: by name, as in torchvision's state dicts.
        notes: what people should know of it.
        averaged: it is the moving average, on request, of what the file holds, too.
    """

    state: dict[str, Tensor]
    notes: tuple[str, ...] = ()
    averaged: bool = False


@dataclass(frozen=True)
class _Group:
    """Tensors of one mapping with the same prefix, by the rest of their names."""

    place: Place
    prefix: str
    members: dict[str, _Leaf]

    @property
    def parts(self) -> tuple[str, ...]:
        return (*self.place, *self.prefix.split(".")[:-1])

    @property
    def ema(self) -> bool:
        return any(EMA.fullmatch(part) for part in self.parts)

    @property
    def label(self) -> str:
        return repr(".".join(self.parts)[:80]) if self.parts else "what is not under a name of its own"


def choose(path: Path, kind: str, contents: Contents, ema: bool = False) -> Choice:
    """The tensors of the network.

    Args:
        path: for messages.
        kind: of the file, with an article, for messages.
        contents: all tensors in it.
        ema: the moving average instead of the weights beside it.

    Raises:
        UsageError: a moving average is asked for, and there is none.
        CorruptFileError: a tensor is not what it declares, there are none, or they are more than a file can have.
    """
    tensors = {place: _used(members) for place, members in contents.tensors.items()}
    groups = _known(tensors, MINDCV if contents.mindspore else {})
    known = bool(groups)
    groups = groups or _by_place(tensors)
    if not groups:
        raise other(path, "holds no weights", "give a file with a network's state dict")
    averages = [group for group in groups if group.ema]
    if ema and not averages:
        raise UsageError(f"{path}: holds no moving average (EMA) of weights; leave out `ema`")
    plain = [group for group in groups if not group.ema]
    if 2 * _most(plain) < _most(averages):  # a few names that happen to be those of a network
        plain = []
    pool = averages if ema or not plain else plain
    taken = _disjoint(pool)
    notes = [] if not known else _left_out(path, tensors, taken, groups)
    notes += _told(path, taken[0], pool, plain, averages)
    found: dict[str, _Leaf] = {}
    for group in taken:
        found |= group.members | (_rest(tensors, group, groups) if known else {})
    _check_others(path, contents, taken)
    return Choice(_made(path, kind, found), tuple(notes), ema and bool(plain))


def _most(groups: Sequence[_Group]) -> int:
    return max((len(group.members) for group in groups), default=0)


def _used(members: Mapping[str, _Leaf]) -> dict[str, _Leaf]:
    return {name: leaf for name, leaf in members.items() if name.rpartition(".")[2] not in UNUSED}


@cache
def _names() -> frozenset[str]:
    """Of all tensors of the networks here."""
    with torch.device("meta"):
        return frozenset(name for variant in VARIANTS.values() for name in SqueezeNet(variant).state_dict())


def _known(tensors: Mapping[Place, Mapping[str, _Leaf]], renamed: Mapping[str, str]) -> list[_Group]:
    """The tensors with known names, grouped by what is in front of these; without training state."""
    names = _names() | renamed.keys()
    groups: dict[tuple[Place, str], _Group] = {}
    for place, members in tensors.items():
        for name, leaf in members.items():
            parts = name.rsplit(".", 4)
            for count in range(min(4, len(parts)), 1, -1):
                rest = ".".join(parts[-count:])
                if rest in names:
                    prefix = name.removesuffix(rest)
                    group = groups.setdefault((place, prefix), _Group(place, prefix, {}))
                    group.members[renamed.get(rest, rest)] = leaf
                    break
    return [group for group in groups.values() if not _is_training(group.parts)]


def _by_place(tensors: Mapping[Place, Mapping[str, _Leaf]]) -> list[_Group]:
    """Of another network: each mapping is a group, less the prefixes that all its names have."""
    groups = []
    for place, members in tensors.items():
        if _is_training(place) or not members:
            continue
        start = ""
        first = next(iter(members)).split(".")[:-1]
        for part in first:
            if part not in PREFIXES or not all(name.startswith(f"{start}{part}.") for name in members):
                break
            start += f"{part}."
        groups.append(_Group(place, start, {name.removeprefix(start): leaf for name, leaf in members.items()}))
    wrapped = [group for group in groups if group.place and (group.place[-1] in WRAPPERS or group.ema)]
    return wrapped or groups


def _is_training(parts: Iterable[str]) -> bool:
    return any(TRAINING.match(part) for part in parts)


def _disjoint(pool: Sequence[_Group]) -> list[_Group]:
    """The largest group, and those that hold nothing but what it lacks: a network under several prefixes."""
    ordered = sorted(pool, key=lambda group: (-len(group.members), len(group.parts)))
    taken, names = [ordered[0]], set(ordered[0].members)
    for group in ordered[1:]:
        if names.isdisjoint(group.members):
            taken.append(group)
            names |= group.members.keys()
    return taken


def _rest(tensors: Mapping[Place, Mapping[str, _Leaf]], group: _Group, groups: Sequence[_Group]) -> dict[str, _Leaf]:
    """What lies beside a group's tensors under the same prefix and no other one: the network has other layers, too."""
    grouped = {id(leaf) for other in groups for leaf in other.members.values()}
    return {
        name.removeprefix(group.prefix): leaf
        for name, leaf in tensors[group.place].items()
        if name.startswith(group.prefix)
        and id(leaf) not in grouped
        and not _is_state(name.removeprefix(group.prefix), leaf)
    }


def _is_state(name: str, leaf: _Leaf) -> bool:
    """Whether a tensor that no network here has is training state: by its name, or a number without a layer."""
    return _is_training(name.split(".")) or ("." not in name and sum(leaf.shape) <= 1) or _is_ema(name)


def _is_ema(name: str) -> bool:
    return any(EMA.fullmatch(part) for part in name.split(".")[:-1])


def _left_out(
    path: Path, tensors: Mapping[Place, Mapping[str, _Leaf]], taken: Sequence[_Group], groups: Sequence[_Group]
) -> list[str]:
    """One line of what lies beside the network's tensors, in the same mapping, and is not taken."""
    grouped = {id(leaf) for group in groups for leaf in group.members.values()}
    kept = {id(leaf) for group in taken for leaf in _rest(tensors, group, groups).values()}
    places = {group.place for group in taken}
    names = [
        name
        for place in places
        for name, leaf in tensors[place].items()
        if id(leaf) not in grouped and id(leaf) not in kept
    ]
    if not names:
        return []
    kinds = list(dict.fromkeys(f"{name.partition('.')[0]}.*" if "." in name else name for name in names))
    listed = ", ".join(kind[:80] for kind in kinds[:LISTED]) + (", ..." if len(kinds) > LISTED else "")
    return [f"{path}: {counted(len(names), 'tensor')} beside the network's ignored ({listed})"]


def _told(
    path: Path, first: _Group, pool: Sequence[_Group], plain: Sequence[_Group], averages: Sequence[_Group]
) -> list[str]:
    """What is said where a file holds the same network more than once."""
    if plain and averages:
        hint = "without `ema`, the weights" if first.ema else "`ema` takes the average"
        what = f"{plain[0].label}, and their moving average (EMA), {averages[0].label}"
        return [f"{path}: holds weights, {what}; {first.label} was taken ({hint})"]
    if first.ema:
        return [f"{path}: holds a moving average (EMA) of weights only, {first.label}, which was taken"]
    rivals = [group for group in pool if not set(group.members).isdisjoint(first.members)]
    if len(rivals) > 1:
        labels = ", ".join(group.label for group in rivals[:LISTED])
        return [f"{path}: holds several networks' weights ({labels}); {first.label} was taken"]
    return []


def _check_others(path: Path, contents: Contents, taken: Sequence[_Group]) -> None:
    """Refuse a state dict of which a part is no plain tensor."""
    for group in taken:
        for name, what in contents.others.get(group.place, {}).items():
            if name.startswith(group.prefix):
                text = f"its entry {name[:80]!r} is {what}, not a plain tensor, and nothing of it was loaded"
                raise other(path, text, "save a state dict of dense, unquantized tensors")


def _made(path: Path, kind: str, found: Mapping[str, _Leaf]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    elements = 0
    for name, leaf in found.items():
        try:
            state[name] = leaf if isinstance(leaf, Tensor) else leaf.tensor()
        except ValueError as failure:
            raise corrupt(path, kind, f"{name[:80]} {failure}") from failure
        elements += state[name].numel()
        if 4 * elements > MAX_BYTES:
            raise corrupt(path, kind, f"its tensors have more than {MAX_BYTES // 4} elements")
    return state
