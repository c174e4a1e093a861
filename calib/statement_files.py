"""Statements of preprocessing as files have them: TOML, metadata of weight files, timm's and Hugging Face's JSON."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from PIL import Image

from squeezeedge.calib.preprocess import MAX_PIXELS, Interpolation, Preprocessing
from squeezeedge.calib.statement import WHOLE, ChannelOrder, Statement, of_preset
from squeezeedge.errors import CorruptFileError, UsageError, check_path, did_you_mean

__all__ = ["KEYS", "beside", "given_statement", "in_metadata", "read_toml", "statement_of", "unrelated"]

MAX_BYTES = 1 << 20
SUFFIX = ".preprocessing.toml"
KEYS = ("mean", "std", "scale", "channel_order", "size", "resize", "crop", "interpolation")
"""Keys of a statement; ``crop`` is a side in pixels, or at most 1: the share of the shorter side."""
TIMM, HUGGING_FACE = "config.json", "preprocessor_config.json"
_SIDE = 1 << 16
_SEPARATOR = re.compile(r"[\s,;]+")
_FILTERS = {filter.value: filter.name.lower() for filter in Image.Resampling}


def statement_of(table: Mapping[str, object], source: str | None = None) -> Statement:
    """What a table of :data:`KEYS` says.

    Args:
        table: numbers may be texts, "1/255" among them; three numbers a list or a text, "0.5, 0.5, 0.5", or one number
            for all; ``resize`` is 0 or null where the whole image is scaled.
        source: who says so; ``None``: the arguments of these names.

    Raises:
        ValueError: a key is unknown, or a value is of another type or not possible.
    """
    found: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key, value in table.items():
        name = str(key).replace("-", "_")
        if name not in KEYS:
            raise ValueError(f"there is no {str(key)[:80]!r}{did_you_mean(name, KEYS)}; it has {', '.join(KEYS)}")
        field, parsed = _PARSERS[name](name, value)
        if found.get(field, parsed) != parsed:
            raise ValueError(f"{name} {parsed} contradicts {field} {found[field]}")
        found[field] = parsed
        sources[field] = f"`{name}`" if source is None else source
    if "resize" in found and "share" in found:
        raise ValueError("resize and crop as a share say the same in two ways; give one of them")
    return Statement(**found, sources=sources)


def read_toml(path: Path) -> Statement:
    """What a .toml file says.

    Raises:
        UsageError: there is no such file.
        CorruptFileError: it is not such a file; the text names it and what is wrong.
    """
    return _read(path, lambda data: statement_of(tomllib.loads(data.decode("utf-8-sig")), path.name))


def given_statement(preprocessing: object) -> Statement:
    """A statement in any form.

    Raises:
        UsageError: it is none, or there is no such file.
        CorruptFileError: the file is damaged, or says what is not possible.
    """
    if preprocessing is None:
        return Statement()
    if isinstance(preprocessing, Statement):
        return preprocessing
    if isinstance(preprocessing, Mapping):
        try:
            return statement_of(preprocessing)
        except ValueError as error:
            raise UsageError(f"`preprocessing`: {error}") from error
    check_path("preprocessing", preprocessing)
    return read_toml(Path(str(preprocessing)))


def beside(path: Path) -> list[Statement]:
    """What the files beside a weight file say: NAME.preprocessing.toml, timm's and Hugging Face's.

    A ``config.json`` that is none of timm's (:func:`unrelated`, too) says nothing.

    Raises:
        CorruptFileError: one of them is damaged, or says what is not possible.
    """
    name = path.name[: -len(".pth.tar")] if path.name.lower().endswith(".pth.tar") else path.stem
    found = []
    for file, reader in (
        (f"{name}{SUFFIX}", read_toml),
        (TIMM, lambda file: _read(file, _timm)),
        (HUGGING_FACE, lambda file: _read(file, _hugging_face)),
    ):
        if (path.parent / file).is_file() and not (file == TIMM and unrelated(path)):
            found.append(reader(path.parent / file))
    return [statement for statement in found if statement.stated()]


def unrelated(path: Path) -> tuple[str, ...]:
    """A remark, where a file beside a weight file has the name of timm's configuration, but is no JSON object."""
    file = path.parent / TIMM
    try:
        _object(json.loads(_content(file).decode("utf-8-sig")))
    except (ValueError, RecursionError):
        return (f"{file}: not a JSON object, so it says nothing of the preprocessing: ignored",)
    except OSError:  # there is none, or :func:`beside` says that it cannot be read
        pass
    return ()


def in_metadata(metadata: Mapping[str, str], path: Path, what: str) -> list[Statement]:
    """What the metadata of a weight file says.

    Three forms are known: ``preprocessing``, a JSON object of :data:`KEYS` (a record of this package's is one); these
    keys themselves; and ONNX's own, ``Image.BitmapPixelFormat`` and ``Image.NominalPixelRange``
    (https://onnx.ai/onnx/repo-docs/MetadataProps.html).

    Args:
        metadata: key -> text.
        path: of the file, for messages.
        what: the file's name for them, such as "metadata_props".

    Raises:
        CorruptFileError: a value is not possible.
    """
    source = f"{what} of {path.name}"
    readers: list[Callable[[], Statement]] = []
    if (record := metadata.get("preprocessing")) is not None:
        readers.append(lambda: _record(record, f"{source} (preprocessing)"))
    own = {key: value for key, value in metadata.items() if key.replace("-", "_") in KEYS and key != "size"}
    readers.append(lambda: statement_of(own, source))
    readers.append(lambda: _standard(metadata, f"{source} (Image.*)"))
    found = []
    for reader in readers:
        try:
            found.append(reader())
        except (ValueError, RecursionError) as failure:
            raise CorruptFileError(
                f"{path}: {what}: preprocessing: {str(failure)[:300]}; write the file again, or remove that"
            ) from failure
    return [statement for statement in found if statement.stated()]


def _record(text: str, source: str) -> Statement:
    if len(text) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    table = _object(json.loads(text, object_pairs_hook=_once))
    try:
        whole = Preprocessing.from_json(table)
    except CorruptFileError:
        return statement_of(table, source)
    return of_preset(whole, source)


def _standard(metadata: Mapping[str, str], source: str) -> Statement:
    statement = Statement()
    if pixels := metadata.get("Image.BitmapPixelFormat"):
        orders: dict[str, ChannelOrder] = {"gray8": "gray", "rgb8": "rgb", "bgr8": "bgr"}
        if pixels.lower() not in orders:
            raise ValueError(f"Image.BitmapPixelFormat {pixels[:40]!r} is not supported; Gray8, Rgb8 and Bgr8 are")
        statement = replace(statement, channel_order=orders[pixels.lower()])
    if span := metadata.get("Image.NominalPixelRange"):
        zero, one = (0.0,) * 3, (1.0,) * 3
        ranges = {
            "nominalrange_0_255": Statement(zero, one, 1.0),
            "normalized_0_1": Statement(zero, one, 1 / 255),
            "normalized_1_1": Statement(one, one, 2 / 255),
        }
        if span.lower() not in ranges:
            raise ValueError(
                f"Image.NominalPixelRange {span[:40]!r} is not supported; NominalRange_0_255, Normalized_0_1 and "
                "Normalized_1_1 are"
            )
        statement = ranges[span.lower()].over(statement)
    return statement.said_by(source)


def _read(path: Path, parse: Callable[[bytes], Statement]) -> Statement:
    try:
        return parse(_content(path))
    except (OSError, ValueError, RecursionError) as failure:
        reason = getattr(failure, "strerror", None) or str(failure)[:300]
        if isinstance(failure, OSError):
            raise UsageError(f"{path}: cannot be read: {reason}; give a file of preprocessing") from failure
        raise CorruptFileError(
            f"{path}: not a valid statement of preprocessing: {reason}; correct the file"
        ) from failure


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    return data


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys occur once each, or with one value."""
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table and table[key] != value:
            raise ValueError(f"{key[:80]!r} is there several times, with different values")
        table[key] = value
    return table


def _json(data: bytes) -> dict[str, Any]:
    return _object(json.loads(data.decode("utf-8-sig"), object_pairs_hook=_once))


def _object(table: object) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ValueError(f"must be a JSON object, not a {type(table).__name__}")
    return table


def _timm(data: bytes) -> Statement:
    """Timm's ``pretrained_cfg`` (https://huggingface.co/docs/timm/hf_hub); other files of that name say nothing."""
    table = _json(data)
    cfg = table.get("pretrained_cfg", table)
    if not isinstance(cfg, dict):
        raise ValueError("pretrained_cfg must be an object")
    if not {"mean", "std", "input_size"} <= cfg.keys():
        return Statement()
    found: dict[str, object] = {key: cfg[key] for key in ("mean", "std", "interpolation") if key in cfg}
    shape = cfg["input_size"]
    if not isinstance(shape, list) or len(shape) != 3:
        raise ValueError(f"input_size {str(shape)[:80]} must be [channels, height, width]")
    found |= {"size": shape[1:], "channel_order": "gray" if shape[0] == 1 else "rgb"}
    mode, share = cfg.get("crop_mode", "center"), cfg.get("crop_pct", 0.875)
    if mode == "squash" and share == 1:
        found["resize"] = WHOLE
    elif mode != "center" and mode is not None and share != 1:
        raise ValueError(f"crop_mode {str(mode)[:40]!r} is not supported, only 'center'; state another preprocessing")
    else:
        found["crop"] = _share(share)
    return statement_of(found, TIMM)


def _hugging_face(data: bytes) -> Statement:
    """An image processor of transformers (https://huggingface.co/docs/transformers/main_classes/image_processor)."""
    table = _json(data)
    found: dict[str, object] = {}
    if table.keys() & {"image_mean", "image_std", "rescale_factor", "do_rescale", "do_normalize"}:
        rescaled, normalized = (_flag(table, key) for key in ("do_rescale", "do_normalize"))
        scale = _number("rescale_factor", table.get("rescale_factor", 1 / 255)) if rescaled else 1.0
        mean, std = (
            _three(key, table.get(key, default)) if normalized else (default,) * 3
            for key, default in (("image_mean", 0.0), ("image_std", 1.0))
        )
        if rescaled and table.get("rescale_offset") is True:  # EfficientNet's: x * scale - 1
            mean = tuple(value + 1 for value in mean)
        found |= {"mean": list(mean), "std": list(std), "scale": scale}
        flipped = table.get("do_flip_channel_order") is True
        found["channel_order"] = "bgr" if flipped else "rgb"
    if "resample" in table and table["resample"] is not None:
        resample = table["resample"]
        found["interpolation"] = _FILTERS.get(resample, resample) if isinstance(resample, int) else resample
    return statement_of(found | _scaling(table), HUGGING_FACE)


def _scaling(table: Mapping[str, Any]) -> dict[str, object]:
    """Size of an image processor: {"shortest_edge"} or {"height", "width"}, and a crop."""
    found: dict[str, object] = {}
    crop = table.get("crop_size") if _flag(table, "do_center_crop", "crop_size" in table) else None
    if crop is not None:
        found["size"] = _sides("crop_size", crop)
    size = table.get("size") if _flag(table, "do_resize") else None
    if isinstance(size, dict) and "shortest_edge" in size:
        short = _whole("shortest_edge", size["shortest_edge"], 1)
        share = table.get("crop_pct")
        if crop is None:  # ConvNeXt's, which crops below 384 pixels only
            found["size"] = [short, short]
            small = share is not None and short < 384
            found["resize"] = math.floor(short / _share(share)) if small else WHOLE
        else:
            found["resize"] = short
    elif size is not None:
        sides = _sides("size", size)
        if crop is None or sides == found["size"]:
            found |= {"size": sides, "resize": WHOLE}
        elif isinstance(size, int):
            found["resize"] = size
        else:
            raise ValueError(
                f"images are scaled to {sides} and then cropped to {found['size']}, which is not supported; state "
                "another preprocessing"
            )
    return found


def _flag(table: Mapping[str, Any], key: str, default: bool = True) -> bool:
    value = table.get(key)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{key} must be true or false")
    return default if value is None else value


def _sides(key: str, value: object) -> list[int]:
    """[height, width] of a number, a list, or {"height", "width"}."""
    if isinstance(value, dict):
        if not {"height", "width"} <= value.keys():
            raise ValueError(f"{key} {str(value)[:80]} must have height and width, or shortest_edge")
        value = [value["height"], value["width"]]
    return list(_size(key, value))


def _size(key: str, value: object) -> tuple[int, int]:
    if isinstance(value, str):
        value = [_number(key, part) for part in _SEPARATOR.split(value.strip("[]() ")) if part]
        value = value[0] if len(value) == 1 else value
    sides = [value, value] if not isinstance(value, list | tuple) else list(value)
    if len(sides) != 2:
        raise ValueError(f"{key} has {len(sides)} values; it must be a side, or [height, width], in pixels")
    height, width = (_whole(key, side, 1) for side in sides)
    if height * width > MAX_PIXELS:
        raise ValueError(f"{key} {height}x{width} is more than {MAX_PIXELS} pixels")
    return height, width


def _crop(key: str, value: object) -> tuple[str, object]:
    if not isinstance(value, list | tuple) and not (isinstance(value, str) and _SEPARATOR.search(value.strip())):
        number = _number(key, value)
        if number <= 1:
            return "share", _share(number)
    return "size", _size(key, value)


def _share(value: object) -> float:
    share = _number("crop", value)
    if not 0.01 <= share <= 1:
        raise ValueError(f"crop {share} of the shorter side must be in 0.01..1")
    return share


def _whole(key: str, value: object, least: int) -> int:
    number = _number(key, value)
    if number != int(number) or not least <= number <= _SIDE:
        raise ValueError(f"{key} {_short(value)} must be a whole number of pixels in {least}..{_SIDE}")
    return int(number)


def _number(key: str, value: object) -> float:
    """A finite number; a text may be a fraction."""
    try:
        if isinstance(value, str):
            numerator, slash, denominator = value.partition("/")
            number = float(numerator) / (float(denominator) if slash else 1)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value)
        else:
            raise ValueError
    except (ValueError, OverflowError, ZeroDivisionError):
        raise ValueError(f"{key} {_short(value)} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{key} {_short(value)} is not finite")
    return number


def _three(key: str, value: object) -> tuple[float, ...]:
    if isinstance(value, str):
        value = [part for part in _SEPARATOR.split(value.strip("[]() \t")) if part]
    parts: Sequence[object] = value if isinstance(value, list | tuple) else [value]
    if len(parts) not in (1, 3):
        raise ValueError(f"{key} has {len(parts)} values; it must be three, one a channel, or one for all")
    numbers = tuple(_number(key, part) for part in parts)
    return numbers * (3 // len(numbers))


def _short(value: object) -> str:
    text = f"{value!r:.60}" if isinstance(value, str) else type(value).__name__
    return str(value) if isinstance(value, float) or (isinstance(value, int) and abs(value) < 10**20) else text


def _mean(key: str, value: object) -> tuple[str, object]:
    return key, _three(key, value)


def _std(key: str, value: object) -> tuple[str, object]:
    numbers = _three(key, value)
    if min(numbers) <= 0:
        raise ValueError(f"{key} {list(numbers)} must be positive; it divides the pixels")
    return key, numbers


def _scale(key: str, value: object) -> tuple[str, object]:
    number = _number(key, value)
    if number <= 0:
        raise ValueError(f"{key} {number} must be positive, such as 1/255 for pixels of 0..1 or 1 for 0..255")
    return key, number


def _one_of(words: Sequence[str]) -> Callable[[str, object], tuple[str, object]]:
    def parse(key: str, value: object) -> tuple[str, object]:
        word = value.lower() if isinstance(value, str) else value
        if not isinstance(word, str) or word not in words:
            hint = did_you_mean(word, words) if isinstance(word, str) else ""
            raise ValueError(f"{key} {_short(value)} is none of {', '.join(words)}{hint}")
        return key, word

    return parse


_PARSERS: Mapping[str, Callable[[str, object], tuple[str, object]]] = {
    "mean": _mean,
    "std": _std,
    "scale": _scale,
    "channel_order": _one_of(get_args(ChannelOrder)),
    "size": lambda key, value: (key, _size(key, value)),
    "resize": lambda key, value: (key, WHOLE if value is None else _whole(key, value, 0)),
    "crop": _crop,
    "interpolation": _one_of(get_args(Interpolation)),
}
