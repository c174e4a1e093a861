"""The networks that the command line knows by name, and their weights. Importing this loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError, counted, did_you_mean
from squeezeedge.files import sha256_of
from squeezeedge.networks.variants import VARIANTS

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from squeezeedge.networks.checkpoints.record import Checkpoint

__all__ = [
    "DEFAULT",
    "NETWORKS",
    "NetworkCost",
    "NetworkSpec",
    "ambiguous",
    "assumed",
    "build",
    "class_names",
    "cost",
    "default_weights",
    "download",
    "identify",
    "is_published",
    "load_weights",
    "networks_of",
    "spec_of",
]

LISTED = 8
SHOWN = 3
"""Number of a checkpoint's tensors that a message names."""
LAST = ("classifier.1.weight", "classifier.1.bias")
"""The last convolution, which has as many outputs as there are classes."""
IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class NetworkSpec:
    """A network that can be built by name.

    Attributes:
        name: on the command line.
        summary: one line for people.
        variant: the architecture, a key of :data:`squeezeedge.networks.variants.VARIANTS`.
        classes: number of classes of the weights named below; 1000 where there are none.
        input_size: (height, width) in pixels.
        preprocessing: name of a preset of :mod:`squeezeedge.calib.preprocess`.
        dataset: embedded data set that the weights were trained on, ``None`` if it is not embedded.
        embedded: the weights are part of this package.
        url: published weights; the file's name ends in the first digits of its SHA-256.
        imagenet: weights with 1000 classes are of ImageNet's, in its order.
    """

    name: str
    summary: str
    variant: str
    classes: int = 1000
    input_size: tuple[int, int] = (224, 224)
    preprocessing: str = "imagenet"
    dataset: str | None = None
    embedded: bool = False
    url: str | None = None
    imagenet: bool = True


@dataclass(frozen=True)
class NetworkCost:
    """What a network costs at one input size.

    Attributes:
        parameters: number of weights and biases.
        macs: multiply-accumulates for one image.
    """

    parameters: int
    macs: int


DEFAULT = "squeezenet1_1_digits"
_TORCHVISION = "https://download.pytorch.org/models/"

NETWORKS: Mapping[str, NetworkSpec] = {
    spec.name: spec
    for spec in (
        NetworkSpec(
            "squeezenet1_1_digits",
            "1.1 trained on scikit-learn's digits",
            variant="1.1",
            classes=10,
            input_size=(96, 96),
            preprocessing="digits",
            dataset="digits",
            embedded=True,
            imagenet=False,
        ),
        NetworkSpec(
            "squeezenet1_0",
            "1.0 as in torchvision",
            variant="1.0",
            url=_TORCHVISION + "squeezenet1_0-b66bff10.pth",
        ),
        NetworkSpec(
            "squeezenet1_1",
            "1.1 as in torchvision",
            variant="1.1",
            url=_TORCHVISION + "squeezenet1_1-b8a52dc0.pth",
        ),
        NetworkSpec(
            "squeezenet1_0_simple_bypass",
            "1.0, additions around fire 3, 5, 7, 9",
            variant="1.0-simple-bypass",
        ),
        NetworkSpec(
            "squeezenet1_0_complex_bypass",
            "1.0, the same and 1x1 convolutions around the others",
            variant="1.0-complex-bypass",
        ),
        NetworkSpec(
            "squeezenet1_0_mindcv",
            "1.0 as in MindCV: no ceil mode",
            variant="1.0-mindcv",
        ),
        NetworkSpec(
            "squeezenet1_1_mindcv",
            "1.1 as in MindCV: padded, no ceil mode",
            variant="1.1-mindcv",
        ),
    )
}


def spec_of(name: str) -> NetworkSpec:
    """The network of a name.

    Raises:
        UsageError: there is none.
    """
    try:
        return NETWORKS[name]
    except KeyError:
        raise UsageError(
            f"no network {name!r}{did_you_mean(name, NETWORKS)}; there are: {', '.join(NETWORKS)}"
        ) from None


def build(name: str, classes: int | None = None) -> Module:
    """The torch module of a network, freshly initialized, in evaluation mode.

    Args:
        name: a key of :data:`NETWORKS`.
        classes: number of classes; ``None`` is the network's own.

    Raises:
        UsageError: no such network, or no classes.
    """
    from squeezeedge.networks.squeezenet import SqueezeNet

    spec = spec_of(name)
    return SqueezeNet(VARIANTS[spec.variant], spec.classes if classes is None else classes).eval()


def class_names(name: str, classes: int) -> tuple[str, ...]:
    """Class names for weights whose file has none.

    Args:
        name: of the network.
        classes: number of classes of the weights.

    Returns:
        ImageNet's where the network was made for them and has as many; else none.

    Raises:
        UsageError: no such network.
    """
    from squeezeedge.calib.imagenet import imagenet_classes

    if not spec_of(name).imagenet or classes != IMAGENET_CLASSES:
        return ()
    return imagenet_classes().names


def cost(name: str, size: tuple[int, int] | None = None) -> NetworkCost:
    """Count the parameters and multiply-accumulates of a network; neither allocates weights nor loads torch.

    Args:
        name: a key of :data:`NETWORKS`.
        size: (height, width) of the input in pixels; ``None`` is the network's own.

    Raises:
        UsageError: no such network, or the input is too small for it.
    """
    spec = spec_of(name)
    layers = list(VARIANTS[spec.variant].convolutions(spec.classes, size or spec.input_size))
    parameters = sum(weights + outputs for weights, outputs, _ in layers)
    return NetworkCost(parameters, sum(weights * positions for weights, _, positions in layers))


def identify(state: Mapping[str, Tensor]) -> tuple[tuple[str, ...], int]:
    """Which networks a state dict fits, from its names and shapes.

    Variants that differ only in padding, pooling or the simple bypass have equal names and shapes.

    Args:
        state: tensors under torchvision's names.

    Returns:
        Names of the networks, torchvision's first, and the number of classes.

    Raises:
        SqueezeEdgeError: it fits none of them.
    """
    import torch

    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    classes = next((shapes[name][0] for name in LAST if shapes.get(name)), 0)
    fitting: list[str] = []
    best: tuple[tuple[int, int], str, Mapping[str, tuple[int, ...]], list[str]] | None = None
    for name, spec in NETWORKS.items():
        if spec.embedded:  # an architecture that another entry has too
            continue
        with torch.device("meta"):
            built = build(name, classes or IMAGENET_CLASSES).state_dict()
        expected = {key: tuple(value.shape) for key, value in built.items()}
        differences = _differences(expected, shapes)
        if not differences:
            fitting.append(name)
        distance = -_fitting(expected, shapes), len(differences)
        if best is None or distance < best[0]:
            best = distance, name, expected, differences
    if fitting and classes:
        return tuple(fitting), classes
    assert best is not None
    nearest = f"The nearest is {best[1]}: {_distance(best[2], shapes, best[3])}" if best[0][0] else "None of them fits"
    raise SqueezeEdgeError(
        f"none of the networks here: it holds {_summary(shapes)}; squeezeedge looked for torchvision's names "
        f"(features.0.weight .. classifier.1.bias) in the shapes of {', '.join(NETWORKS)}. "
        f"{nearest}; give another network as ONNX, which says what is computed"
    )


def ambiguous(path: Path, fitting: Sequence[str], taken: str) -> str:
    """A remark for a checkpoint whose tensors fit several networks: which ones, and which one is taken."""
    return f"{path}: its tensors fit {' and '.join(fitting)}; {taken} is taken (`network` says otherwise)"


def assumed(
    path: Path, checkpoint: Checkpoint, fitting: Sequence[str], taken: str, size: tuple[int, int], sha256: str
) -> tuple[str, ...]:
    """What is taken for granted of a checkpoint whose file does not say its network: one remark, or none.

    Args:
        path: the file.
        checkpoint: what lies in it.
        fitting: the networks that it can be of; one where the choice is made already.
        taken: the network that it is taken for.
        size: (height, width) of the input in pixels.
        sha256: of the file, in hex.
    """
    published = _digest(NETWORKS[taken])
    if checkpoint.metadata.get("network") == taken or (published and sha256.startswith(published)):
        return ()
    said = f"{path}: tensors do not tell stride, padding or pooling"
    if len(fitting) > 1:
        said = f"{path}: its tensors fit {' and '.join(fitting)}"
    height, width = size
    return (f"{said}; {taken} is taken, with an input of {height}x{width} (`network` and `size` say otherwise)",)


def networks_of(checkpoint: Checkpoint, sha256: str = "") -> tuple[tuple[str, ...], int]:
    """Which networks a checkpoint can be of.

    If the file names its network, or is a published file, there is one. Else these are the networks that its tensors
    fit, the likeliest first: a file of MindSpore is mostly MindCV's, any other one torchvision's.

    Args:
        checkpoint: the file's tensors and what it says about itself.
        sha256: of the file, in hex; empty: not known.

    Returns:
        Names of the networks, and the number of classes.

    Raises:
        SqueezeEdgeError: it is of none of them.
    """
    fitting, classes = identify(checkpoint.state)
    if said := checkpoint.metadata.get("network"):
        return (said,), classes
    published = tuple(name for name in fitting if is_published(name, sha256))
    return published or tuple(sorted(fitting, key=lambda name: name != checkpoint.likely)), classes


def load_weights(module: Module, state: Mapping[str, Tensor], file_name: str) -> None:
    """Copy a state dict into a module, all of it or nothing.

    Args:
        module: what :func:`build` made.
        state: float32 tensors by name.
        file_name: for the message.

    Raises:
        SqueezeEdgeError: names or shapes differ; the text lists them.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    differences = _differences(expected, {name: tuple(tensor.shape) for name, tensor in state.items()})
    differences += [f"{name} holds {t.dtype} values" for name, t in state.items() if not t.is_floating_point()]
    if differences:
        try:
            names, classes = identify(state)
            fix = f"its names and shapes are those of {' and '.join(names)} with {classes} classes"
        except SqueezeEdgeError:
            fix = "name the network that the file was made of (`squeezeedge models`)"
        found = {name: tuple(tensor.shape) for name, tensor in state.items()}
        raise SqueezeEdgeError(
            f"{file_name}: does not fit the network: {_distance(expected, found, differences)}; {fix}"
        )
    module.load_state_dict(dict(state))


def _differences(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> list[str]:
    lines = [f"{name} {list(shape)} is missing" for name, shape in expected.items() if name not in found]
    for name, shape in found.items():
        if name not in expected:
            lines.append(f"{name[:80]} {list(shape)} is not part of it")
        elif shape != expected[name]:
            lines.append(f"{name} is {list(shape)} instead of {list(expected[name])}")
    return lines


def _fitting(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> int:
    """Number of a network's tensors that are there, in their shapes."""
    return sum(found.get(name) == shape for name, shape in expected.items())


def _summary(found: Mapping[str, tuple[int, ...]]) -> str:
    """How many tensors there are, and the first ones."""
    first = ", ".join(f"{name[:80]} {list(shape)[:LISTED]}" for name, shape in list(found.items())[:SHOWN])
    return f"{counted(len(found), 'tensor')} ({first}{', ...' if len(found) > SHOWN else ''})"


def _distance(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], differences: list[str]
) -> str:
    """How far tensors are from a network."""
    return f"{_fitting(expected, found) or 'none'} of its {len(expected)} tensors fit; {_listed(differences)}"


def _listed(lines: list[str]) -> str:
    rest = len(lines) - LISTED
    return "; ".join(lines[:LISTED]) + (f"; and {rest} more" if rest > 0 else "")


def default_weights() -> Path:
    """The weights file of the embedded network.

    Raises:
        CorruptFileError: the installation lacks it.
    """
    path = Path(__file__).with_name(f"{DEFAULT}.safetensors")
    if not path.is_file():
        raise CorruptFileError(f"{path}: the embedded weights are missing; install squeezeedge again")
    return path


def is_published(name: str, sha256: str) -> bool:
    """Whether a file of this SHA-256, in hex, is the published weights of a network; empty: it is not known."""
    digest = _digest(NETWORKS[name])
    return bool(digest) and sha256.startswith(digest)


def _digest(spec: NetworkSpec) -> str:
    """First digits of the SHA-256 of a network's published weights; empty if there are none."""
    return (spec.url or "").rpartition("-")[2].partition(".")[0]


def download(name: str) -> Path:
    """Fetch a network's published weights into torch.hub's folder, unless they are there already.

    Returns:
        The verified file.

    Raises:
        UsageError: there is no such network, or nothing is published for it.
        SqueezeEdgeError: the file cannot be fetched, or its SHA-256 is not the published one.
    """
    import sys

    import torch

    spec = spec_of(name)
    if spec.url is None:
        published = ", ".join(other.name for other in NETWORKS.values() if other.url is not None)
        raise UsageError(f"{name}: no weights are published; give `weights` (published: {published})")
    file_name = spec.url.rpartition("/")[2]
    digest = _digest(spec)
    path = Path(torch.hub.get_dir()) / "checkpoints" / file_name
    try:
        if path.is_file() and sha256_of(path).startswith(digest):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(spec.url, str(path), hash_prefix=digest, progress=sys.stderr.isatty())
    except (OSError, RuntimeError) as failure:  # offline, HTTP status, disk; RuntimeError: wrong SHA-256
        raise SqueezeEdgeError(
            f"{spec.url}: could not be downloaded: {failure}; get the file elsewhere and give it as `weights`"
        ) from failure
    return path
