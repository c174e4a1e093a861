"""Shell completion of option values; neither torch nor tvm is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from glob import escape, glob
from pathlib import Path

__all__ = ["data_sets", "devices", "folders", "images", "models", "networks", "one_of", "recipes", "sides", "targets"]


def one_of(values: Iterable[str]) -> Callable[[str], list[str]]:
    """A function that offers the values that begin with the typed text."""
    known = tuple(values)
    return lambda incomplete: _beginning(incomplete, known)


def targets(incomplete: str) -> list[str]:
    """Names of targets."""
    from squeezeedge.targets.registry import all_targets

    return _beginning(incomplete, all_targets())


def devices(incomplete: str) -> list[str]:
    """Names of devices."""
    from squeezeedge.targets.registry import all_targets

    return _beginning(incomplete, (device for target in all_targets().values() for device in target.devices))


def networks(incomplete: str) -> list[str]:
    """Names of networks."""
    from squeezeedge.networks.registry import NETWORKS

    return _beginning(incomplete, NETWORKS)


def models(incomplete: str) -> list[str]:
    """Names of networks, and files and folders."""
    return [*networks(incomplete), *_paths(incomplete)]


def sides(incomplete: str) -> list[str]:
    """What `compare` compares: words, devices, networks, and files and folders."""
    return [*_beginning(incomplete, ("oracle", "fp32", "onnx")), *devices(incomplete), *models(incomplete)]


def data_sets(incomplete: str) -> list[str]:
    """The embedded data set, and files and folders."""
    return [*_beginning(incomplete, ("digits",)), *_paths(incomplete)]


def images(incomplete: str) -> list[str]:
    """Files and folders."""
    return _paths(incomplete)


def folders(incomplete: str) -> list[str]:
    """Folders."""
    return [path for path in _paths(incomplete) if path.endswith("/")]


def recipes(incomplete: str) -> list[str]:
    """Names of recipes, and files and folders."""
    from squeezeedge.training.recipe import embedded_recipes

    return [*_beginning(incomplete, embedded_recipes()), *_paths(incomplete)]


def _beginning(incomplete: str, values: Iterable[str]) -> list[str]:
    return [value for value in values if value.startswith(incomplete)]


def _paths(incomplete: str) -> list[str]:
    """Existing paths that begin with the typed text; folders end with a slash."""
    return [f"{path}/" if Path(path).is_dir() else path for path in sorted(glob(f"{escape(incomplete)}*"))]  # noqa: PTH207
