#!/usr/bin/env python3
"""Runs the compiled network of this folder on the device that it was compiled for.

    python3 run.py                        check the device: are the sums of the golden inputs right?
    python3 run.py cat.jpg images.npy     classify image files, or uint8 arrays [N, height, width, 3]
    python3 run.py - < images.npy         the same with arrays from the standard input, answered as they come

Needs Python 3.8 or later, numpy and what ``device.py`` beside it says; Pillow too, to read image files. Every file is
compared with its checksum before it is used. Results are JSON objects, one a line, on the standard output; errors are
lines on the standard error. An answer has the image's index in its file, or among all images of the standard input, and
the likeliest classes, best first: their labels (null: names are not known), scores (probabilities, 0..1) and logits.
With --trace, the kernels' tensors are written too: to FILE.npz those of the first image, arrays by name; to - those of
every image, lines in front of its answer, whose data are base64 of the array's bytes.
Of several image files those that cannot be read are named on the standard error and counted in the last line.
Exit codes: 0 done, 1 a known failure (also if more than half of the images cannot be read, or any with --strict; the
others are answered), 2 wrong usage, 3 this machine lacks the device or a library for it, 4 the golden inputs gave wrong
sums.
"""

# Annotations that Python 3.6 could not evaluate are strings: it must come to the check of its version.
import argparse
import base64
import hashlib
import inspect
import io
import json
import os
import stat
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

if sys.version_info < (3, 8):  # noqa: UP036
    print(f"run.py: error: this is Python {sys.version.split()[0]}; 3.8 or later is needed", file=sys.stderr)
    sys.exit(3)
if __name__ == "__main__":
    sys.dont_write_bytecode = True  # an artifact's folder stays as it was copied
try:
    import numpy as np
except ImportError as error:
    print(f"run.py: error: numpy is missing ({error}); {sys.executable} -m pip install numpy", file=sys.stderr)
    sys.exit(3)

__all__ = [
    *("DEVICE", "GOLDEN", "MANIFEST", "SCRIPT", "TRACE", "Artifact", "Placed", "Trace"),
    *("main", "meaning_sha256", "read_images"),
]

SCRIPT, DEVICE = "run.py", "device.py"
MANIFEST, GOLDEN, TRACE = "manifest.json", "golden.npz", "trace.json"
COPY_AGAIN = "copy the artifact again, or compile the model again"

DONE, FAILED, UNAVAILABLE, WRONG_SUMS, INTERRUPTED = 0, 1, 3, 4, 130

FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 89_478_485
"""Largest image that is decoded or made by scaling, in pixels."""

MAX_SCALE = 1e29
"""Times any class sum, float32 holds it."""

MAX_TENSOR = 1 << 28
"""Largest tensor of a network that is traced, in bytes."""

CHUNK = 1 << 20

MEANING = ("input", "preprocessing", "labels", "logit_scale", "compiled")
"""What the manifest itself says about images and answers; all else that a device reads are files with checksums."""


class Artifact:
    """The files of an artifact's folder; each is compared with the manifest before it is used.

    Attributes:
        folder: where they are.
        manifest: manifest.json, whose values that are used here have been checked.
        shape: (height, width, 3) of an image.
        classes: how many.
        labels: class names in the order of the classes; empty if they are not known.
        logit_scale: float32 [classes]: float32 class sum * logit_scale = logit.
        preprocessing: how an image file becomes an image of that shape.
        compiled: the target's own entries.

    Raises:
        ValueError: the manifest is missing or damaged; the text names it and the remedy.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / MANIFEST
        try:
            self.manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            self._check_manifest()
        except FileNotFoundError:
            raise ValueError(f"{path}: missing, so this folder is no artifact; {COPY_AGAIN}") from None
        except (OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RuntimeError) as error:
            raise ValueError(f"{path}: damaged ({error!r}); {COPY_AGAIN}") from error

    def _check_manifest(self) -> None:
        manifest = self.manifest
        height, width, channels = map(_positive, manifest["input"])
        _require(channels == 3 and height * width <= MAX_PIXELS, "input")
        self.shape = (height, width, channels)
        scale = manifest["logit_scale"]
        _require(type(scale) is list and len(scale) > 0, "logit_scale")
        _require(all(type(value) in (int, float) and abs(value) < MAX_SCALE for value in scale), "logit_scale")
        self.logit_scale = np.array(scale, np.float32)
        self.classes = len(scale)
        self.labels: list[str] = manifest["labels"]
        _require(type(self.labels) is list and all(type(label) is str for label in self.labels), "labels")
        _require(len(self.labels) in (0, self.classes), "labels")
        self.preprocessing: dict[str, Any] = manifest["preprocessing"]
        resize = self.preprocessing["resize"]
        _require(tuple(self.preprocessing["size"]) == (height, width), "preprocessing: size")
        _require(resize is None or max(height, width) <= _positive(resize) <= MAX_PIXELS, "preprocessing: resize")
        _require(self.preprocessing["interpolation"] in FILTERS, "preprocessing: interpolation")
        _require(self.preprocessing.get("channel_order", "gray") == "gray", "preprocessing: channel_order")
        self.compiled: dict[str, Any] = manifest["compiled"]
        _require(type(self.compiled) is dict, "compiled")
        self._files: dict[str, dict[str, Any]] = manifest["files"]
        root = self.folder.resolve()
        for name, entry in self._files.items():
            _require(root in (root / name).resolve().parents, f"{name!r} is outside of the folder")
            _require(type(entry["bytes"]) is int and type(entry["sha256"]) is str, f"files: {name}")
        _require(manifest["meaning_sha256"] == meaning_sha256(manifest), f"one of {', '.join(MEANING)} was changed")

    def has(self, name: str) -> bool:
        """Whether the manifest lists a file."""
        return name in self._files

    def path(self, name: str) -> Path:
        """Path of a file that is there and has its size and checksum.

        Raises:
            ValueError: it has not; the text names the file and the remedy.
        """
        path = self.folder / name
        with self._open(name) as file:
            hasher = hashlib.sha256()
            for chunk in iter(lambda: file.read(CHUNK), b""):
                hasher.update(chunk)
        self._compare(name, hasher.hexdigest())
        return path

    def read(self, name: str) -> bytes:
        """A file's bytes; raises as :meth:`path`."""
        with self._open(name) as file:
            data = file.read()
        self._compare(name, hashlib.sha256(data).hexdigest())
        return data

    def golden(self) -> "tuple[np.ndarray, np.ndarray]":
        """Images uint8 [n, height, width, 3] and the class sums int32 [n, classes] that they must give.

        Raises:
            ValueError: the file is damaged or of another network.
        """
        data = io.BytesIO(self.read(GOLDEN))
        try:
            with np.load(data, allow_pickle=False) as file:
                _require(sum(record.file_size for record in file.zip.infolist()) <= 3 * MAX_PIXELS, "too large")
                images, sums = file["images"], file["sums"]
            _require(images.dtype == np.uint8 and images.shape == (len(images), *self.shape), "images")
            _require(sums.dtype == np.int32 and sums.shape == (len(images), self.classes), "sums")
            _require(len(images) > 0, "no images")
        except Exception as error:  # a malformed archive raises all sorts of things: BadZipFile, zlib.error, EOFError
            raise ValueError(f"{self.folder / GOLDEN}: damaged ({error!r}); {COPY_AGAIN}") from error
        return images, sums

    def trace(self, name: str = TRACE) -> "Trace":
        """Where the tensors of the network lie, by a file of that name.

        Raises:
            ValueError: the file is missing or damaged.
        """
        data = self.read(name)
        try:
            return Trace(json.loads(data.decode()))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise ValueError(f"{self.folder / name}: damaged ({error!r}); {COPY_AGAIN}") from error

    def _open(self, name: str) -> io.BufferedReader:
        """A file that is listed and has its size."""
        if name not in self._files:
            raise ValueError(f"{self.folder / name}: {MANIFEST} does not list it; {COPY_AGAIN}")
        try:
            found = (self.folder / name).stat()
            if not stat.S_ISREG(found.st_mode) or found.st_size != self._files[name]["bytes"]:
                self._compare(name, "")
            return (self.folder / name).open("rb")
        except OSError as error:
            raise ValueError(f"{self.folder / name}: {error.strerror}; {COPY_AGAIN}") from error

    def _compare(self, name: str, sha256: str) -> None:
        if sha256 != self._files[name]["sha256"]:
            raise ValueError(f"{self.folder / name}: differs from its checksum in {MANIFEST}; {COPY_AGAIN}")


class Placed:
    """Where a tensor of the network lies after a step of a run; the start of the memory is the device module's.

    Attributes:
        name: of the tensor.
        step: number of the step that makes it: of a kernel, a launch or a layer.
        shape: (height, width, channels).
        begin: first byte of the memory that it lies in.
        end: behind the last one.
    """

    def __init__(self, record: "Mapping[str, Any]") -> None:
        self.name = _text(record["name"])
        self.step, self._row, self._pixel = (_positive(record[key], 0) for key in ("step", "row", "pixel"))
        height, width, channels = map(_positive, record["shape"])
        self.shape = (height, width, channels)
        self._runs = [(_positive(first, 0), _positive(count)) for first, count in record["runs"]]
        _require(height * width * channels <= MAX_TENSOR, f"{self.name}: too large")
        _require(sum(count for _, count in self._runs) == channels, f"{self.name}: not {channels} channels")
        self._flip = np.uint8(_positive(record["flip"], 0) & 0xFF)
        last = (height - 1) * self._row + (width - 1) * self._pixel
        self.begin = min(first for first, _ in self._runs)
        self.end = last + max(first + count for first, count in self._runs)

    def values(self, memory: np.ndarray) -> np.ndarray:
        """The bytes from ``begin`` to ``end``, uint8 -> the tensor, uint8 [height, width, channels], a copy."""
        _require(memory.dtype == np.uint8 and memory.shape == (self.end - self.begin,), f"{self.name}: other memory")
        strides = (self._row, self._pixel, 1)
        parts = [
            np.lib.stride_tricks.as_strided(memory[first - self.begin :], (*self.shape[:2], count), strides)
            for first, count in self._runs
        ]
        values: np.ndarray = np.concatenate(parts, 2) ^ self._flip
        return values


class Trace:
    """What trace.json says.

    Attributes:
        head: name of the layer that makes the class sums.
        places: of the tensors that lie in memory, in execution order.
        unseen: name of every other tensor -> why it does not.
    """

    def __init__(self, record: "Mapping[str, Any]") -> None:
        self.head = _text(record["head"])
        self.places = [Placed(one) for one in record["tensors"]]
        self.unseen: dict[str, str] = {_text(name): _text(why) for name, why in record["unseen"].items()}
        names = [self.head, *self.unseen, *(place.name for place in self.places)]
        _require(len(set(names)) == len(names), "a tensor that is there twice")


def meaning_sha256(manifest: "Mapping[str, Any]") -> str:
    """Checksum of the manifest's values that tell what images and answers mean."""
    text = json.dumps({key: manifest[key] for key in MEANING}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class _Refused(ValueError):
    """What is whole and yet not taken; the text says what to do."""


class _Unreadable(_Refused):
    """An image that cannot be read; of many, it is left out."""


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)


def _positive(value: Any, least: int = 1) -> int:  # noqa: ANN401  (JSON)
    _require(type(value) is int and least <= value < 1 << 62, f"{value!r:.40} is not a number of {least} or more")
    return cast(int, value)


def _text(value: Any) -> str:  # noqa: ANN401  (JSON)
    _require(type(value) is str and value.isprintable(), f"{value!r:.40} is no text")
    return cast(str, value)


def read_images(path: Path, preprocessing: "Mapping[str, Any]") -> np.ndarray:
    """Images of a file.

    Args:
        path: an image file, or a .npy array of images of the network's size.
        preprocessing: the manifest's record, for an image file.

    Returns:
        uint8 [N, height, width, 3] of an image file; whatever a .npy file holds.

    Raises:
        ValueError: it cannot be read; the text names the file and the reason.
    """
    try:
        if path.is_dir():  # which fails on names that are too long
            raise _Refused("this is a folder; name the files in it, or run `squeezeedge eval` on it")
        if path.suffix.lower() == ".npy":
            array = np.load(str(path), allow_pickle=False, mmap_mode="r")  # which compares its size with the file's
            _require(isinstance(array, np.ndarray), "not one array but an archive")
            return np.array(array)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata, which says nothing about the pixels
            return _decode(path, preprocessing)[None]
    except ImportError as error:
        fix = f"{sys.executable} -m pip install pillow, or give .npy arrays"
        text = f"Pillow is needed to read image files ({error}): {fix}"
        raise ValueError(f"{path}: {text}") from error
    except _Refused as error:
        raise type(error)(f"{path}: {error}") from None
    except Exception as error:  # malformed files make the decoders raise all sorts of things
        fixes = {".npy": "save images with numpy.save", ".avif": "give a whole file to Pillow 11.3 or later"}
        fix = fixes.get(path.suffix.lower(), "give a whole image file")
        reason = getattr(error, "strerror", None) or f"{str(error) or repr(error)}; {fix}"
        wrong = path.suffix.lower() == ".npy" or isinstance(error, FileNotFoundError)
        raise (ValueError if wrong else _Unreadable)(f"{path}: {reason}") from error


def _decode(path: Path, preprocessing: "Mapping[str, Any]") -> np.ndarray:
    """An image file as the network takes it: uint8 [height, width, 3]."""
    from PIL import Image

    if path.suffix.lower() in (".heic", ".heif"):
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            raise _Unreadable("HEIC images need the package pillow-heif: install it, or convert the image") from None
        register_heif_opener()
    with Image.open(str(path)) as file:
        if file.format not in FORMATS:
            raise _Unreadable(f"{file.format} images are not read, only {', '.join(FORMATS)}; convert the image")
        if file.width * file.height > MAX_PIXELS:
            raise _Unreadable(f"too large; at most {MAX_PIXELS} pixels are decoded: scale the image down")
        if file.mode.startswith(("I", "F")):
            raise _Unreadable("its pixels have more than 8 bits a channel; convert the image to 8 bits")
        transparent = file.mode == "P" and "transparency" in file.info
        image = (file.convert("RGBA") if transparent else file).convert("RGB")
    if "channel_order" in preprocessing:
        image = image.convert("L")
    return np.asarray(_scaled(image, preprocessing).convert("RGB"))


def _scaled(image: "Any", preprocessing: "Mapping[str, Any]") -> "Any":  # noqa: ANN401  (Pillow's image)
    from PIL import Image

    (height, width), resize = preprocessing["size"], preprocessing["resize"]
    resample = getattr(Image, preprocessing["interpolation"].upper())
    if resize is None:
        return _resized(image, (width, height), resample)
    short = min(image.size)
    if short != resize:
        image = _resized(image, (image.width * resize // short, image.height * resize // short), resample)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _resized(image: "Any", size: "tuple[int, int]", resample: int) -> "Any":  # noqa: ANN401  (Pillow's image)
    """Scaled along the rows and then along the columns, which Pillow 13 does not always."""
    if size[0] * max(size[1], image.height) > MAX_PIXELS:
        raise _Unreadable("too elongated to scale; crop the image")
    return image.resize((size[0], image.height), resample).resize(size, resample)


def _standard_input() -> "Iterator[np.ndarray]":
    """Arrays in .npy form, one after the other, as they come.

    Raises:
        ValueError: something else came, or the last array is cut off.
    """
    try:
        stream = open(0, "rb", closefd=False)
    except OSError as error:
        raise ValueError(f"standard input: {error.strerror}") from error
    with stream:
        readable = SimpleNamespace(read=stream.read)  # numpy would seek in a file
        while stream.peek(1):
            try:
                yield np.lib.format.read_array(cast(Any, readable), allow_pickle=False)
            except Exception as error:
                raise ValueError(f"standard input: not an array in .npy form: {str(error) or repr(error)}") from error


def _batch(source: Path, images: np.ndarray, shape: "tuple[int, int, int]") -> np.ndarray:
    """Images uint8 [N, height, width, 3]; one image may come without the N."""
    if images.shape == shape:
        images = images[None]
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        wanted = "images must be uint8 [N, {}, {}, {}]".format(*shape)
        raise ValueError(f"{source}: {wanted}, not {images.dtype} {list(images.shape)}")
    return np.ascontiguousarray(images)


def _check_golden(network: Any, artifact: Artifact) -> int:  # noqa: ANN401  (device.py's Network)
    """Print the line about the golden inputs; returns the exit code."""
    images, expected = artifact.golden()
    sums, timings = network.run(images)
    difference = np.abs(sums.astype(np.int64) - expected)
    wrong = int((difference > 0).sum())
    error = float(difference.max() / max(1, np.abs(expected.astype(np.int64)).max()))
    line: dict[str, Any] = {"golden": len(images), "differing_sums": wrong}
    if network.tolerance:
        line["largest_error"] = error
    line.update((name, float(np.median(values))) for name, values in timings.items())
    _print({**line, **network.about()})
    if error <= network.tolerance:
        return DONE
    text = f"{wrong} class sums differ from the golden ones"
    if network.tolerance:
        text += f", by {error:.3g} of the largest; {network.tolerance:g} is allowed"
    return _report(text, WRONG_SUMS)


def _answer(
    network: Any,  # noqa: ANN401
    artifact: Artifact,
    source: Path,
    images: np.ndarray,
    options: argparse.Namespace,
    first: int = 0,
) -> int:
    """Run images of one source, of which ``first`` came before, and print a line for each; returns how many."""
    images = _batch(source, images, artifact.shape)
    if getattr(options, "trace", None) is not None:
        _trace(network, images, options, first)
    all_sums, timings = network.run(images)
    for position, sums in enumerate(all_sums):
        logits = sums.astype(np.float32) * artifact.logit_scale
        weights = np.exp(logits.astype(np.float64) - logits.max())
        best = np.argsort(-logits, kind="stable")[: options.top]
        line = {
            "image": str(source),
            "index": first + position,
            "classes": best.tolist(),
            "labels": [artifact.labels[c] for c in best] if artifact.labels else None,
            "scores": (weights / weights.sum())[best].tolist(),
            "logits": [float(logits[c]) for c in best],
        }
        line.update((name, float(values[position])) for name, values in timings.items())
        if options.sums:
            line["sums"] = sums.tolist()
        _print(line)
    return len(all_sums)


def _trace(network: Any, images: np.ndarray, options: argparse.Namespace, first: int) -> None:  # noqa: ANN401
    """Print the tensors of images, of which ``first`` came before; or write those of one image, once."""
    if options.trace == "-":
        for index, image in enumerate(images, first):
            for name, values in network.trace(image):
                line = {"tensor": name, "index": index, "dtype": str(values.dtype), "shape": list(values.shape)}
                _print({**line, "data": base64.b64encode(values.tobytes()).decode()})
    elif len(images):
        with zipfile.ZipFile(options.trace, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, values in network.trace(images[0]):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, values, allow_pickle=False)
        options.trace = None


def _answer_all(network: Any, artifact: Artifact, options: argparse.Namespace) -> int:  # noqa: ANN401
    """Answer every source; where one fails, the next one is taken. Returns the exit code."""
    code, unreadable, count = DONE, 0, len(options.images)
    for source in options.images:
        try:
            if str(source) == "-":
                done = 0
                for images in _standard_input():
                    done += _answer(network, artifact, source, images, options, done)
                _require(done > 0 or options.check, "standard input: holds no images")
            else:
                images = read_images(source, artifact.preprocessing)
                _require(images.shape[:1] != (0,), f"{source}: holds no images")
                _answer(network, artifact, source, images, options)
        except ValueError as error:
            failed = _report(error, FAILED)
            unreadable += isinstance(error, _Unreadable)
            code = code if isinstance(error, _Unreadable) else failed
    if unreadable and count > 1:
        _print({"unreadable": unreadable, "images": count})
    return FAILED if 2 * unreadable > count or (unreadable and options.strict) else code


def _run(device: Any, artifact: Artifact, options: argparse.Namespace) -> int:  # noqa: ANN401  (the module device.py)
    taken = inspect.signature(device.Network).parameters
    network = device.Network(artifact, **{key: value for key, value in vars(options).items() if key in taken})
    try:
        if options.check or not options.images:
            code = _check_golden(network, artifact)
            if code != DONE:
                return code
        code = _answer_all(network, artifact, options)
        if hasattr(device, "measure"):
            measured = device.measure(network, artifact, options)
            if measured is not None:
                _print(measured)
        return code
    finally:
        network.close()


def _print(line: "Mapping[str, Any]") -> None:
    print(json.dumps(line), flush=True)


def _report(error: object, code: int) -> int:
    """One line on the standard error; returns the exit code."""
    if sys.stderr is not None:  # else print would take the standard output
        print(f"{SCRIPT}: error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    return code


def _top(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number, at least 1")
    return int(text)


def _traced(text: str) -> str:
    if text != "-" and not text.endswith(".npz"):
        raise argparse.ArgumentTypeError(f"{text!r} must end in .npz, or be -")
    return text


def _load_device(artifact: Artifact) -> Any:  # noqa: ANN401  (the module)
    """``device.py`` beside this file: what is different from target to target.

    Its text is what is checked and executed, so no bytecode that lies about it is.
    """
    module = sys.modules["device"] = ModuleType("device")
    module.__file__ = str(artifact.folder / DEVICE)
    exec(compile(artifact.read(DEVICE), module.__file__, "exec"), module.__dict__)
    return module


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Command line, see the module's text; returns the exit code."""
    if cast(Any, sys.stdout) is None:
        return _report("the standard output is closed, but answers are printed there", FAILED)
    try:
        artifact = Artifact(Path(__file__).resolve().parent)
        device = _load_device(artifact)
    except (ValueError, ImportError) as error:
        return _report(error, FAILED)
    parser = argparse.ArgumentParser(
        prog=SCRIPT, description="Run the compiled network on images, or check the device."
    )
    images = "image files or .npy arrays; -: arrays from the standard input; none: check the device"
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help=images)
    parser.add_argument("--strict", action="store_true", help="exit with 1 where any of several images cannot be read")
    parser.add_argument("--check", action="store_true", help="check the device on the golden inputs first")
    parser.add_argument("--top", type=_top, default=5, metavar="N", help="classes to print (default: 5)")
    parser.add_argument("--sums", action="store_true", help="print every class sum too")
    if hasattr(device.Network, "trace"):
        what = "write the tensors of the first image; -: print those of every image"
        parser.add_argument("--trace", type=_traced, metavar="FILE.npz", help=what)
    device.add_arguments(parser)
    options = parser.parse_intermixed_args(arguments)
    try:
        return _run(device, artifact, options)
    except argparse.ArgumentError as error:  # of an option whose values only the device knows
        parser.error(str(error))
    except device.Unavailable as error:
        return _report(error, UNAVAILABLE)
    except BrokenPipeError:  # nobody reads the answers any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except (OSError, ValueError, RuntimeError, LookupError, MemoryError, ImportError) as error:
        return _report(str(error) or repr(error), FAILED)


if __name__ == "__main__":
    sys.exit(main())
