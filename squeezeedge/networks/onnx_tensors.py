"""Values of ONNX tensors, inside the model or in other files of its folder. Nothing declared is trusted."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path, PurePosixPath

from onnx import TensorProto

__all__ = ["ExternalData", "check_form"]

FORMS = ("float_data", "double_data", "int32_data", "int64_data", "uint64_data", "string_data")
HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
MAX_FILE_BYTES = 1 << 32
CHUNK = 1 << 20


def check_form(tensor: TensorProto) -> None:
    """Check that a tensor's values are given once.

    Raises:
        ValueError: they are given in several ways, of which readers would take one or the other; or 16-bit patterns
            have more bits. The text says what.
    """
    forms = [name for name in FORMS if len(getattr(tensor, name))]
    forms += ["raw_data"] if tensor.raw_data else []
    forms += ["external data"] if tensor.data_location == TensorProto.EXTERNAL else []
    if len(forms) > 1:
        raise ValueError(f"its values are given as {' and '.join(forms)}; one of them is allowed")
    if tensor.data_type in HALVES and not all(0 <= bits < 1 << 16 for bits in tensor.int32_data):
        raise ValueError("a 16-bit value has more than 16 bits")


class ExternalData:
    """Reads tensors from the files beside a model, before anything else is opened.

    Args:
        folder: of the model; every file must lie in it or below, also behind links.
        most: bytes of all tensors together.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most, self._left = folder.resolve(), most, most
        self._digests: dict[Path, str] = {}

    def load(self, tensor: TensorProto, item_bytes: int) -> None:
        """Put a tensor's bytes into it.

        Args:
            tensor: one with external data.
            item_bytes: size of an element.

        Raises:
            ValueError: it refers to something else than a file of the folder, or to bytes that are not there or are
                not what its shape or its checksum say. The text says which.
        """
        entries: dict[str, str] = {}
        for entry in tensor.external_data:
            if entry.key in entries:
                raise ValueError(f"its {entry.key!s:.80} is given twice")
            entries[entry.key] = entry.value
        source = self._file(entries.get("location", ""))
        needed = math.prod(tensor.dims) * item_bytes
        if len(tensor.dims) > 8 or min(tensor.dims, default=0) < 0:
            raise ValueError(f"shape {list(tensor.dims)[:8]} is not possible")
        offset, length = _natural(entries, "offset", 0), _natural(entries, "length", needed)
        if length != needed:
            raise ValueError(f"shape {list(tensor.dims)} needs {needed} bytes and {length} are declared")
        if needed > self._left:
            raise ValueError(f"the external data exceed {self._most} bytes")
        size = source.stat().st_size
        if offset + length > size:
            raise ValueError(f"{source.name} has {size} bytes and ends before byte {offset + length}")
        if "checksum" in entries and self._sha1(source, size) != str(entries["checksum"]).lower():
            raise ValueError(f"{source.name} differs from its checksum")
        with source.open("rb") as file:
            file.seek(offset)
            tensor.raw_data = file.read(length)
        if len(tensor.raw_data) != length:
            raise ValueError(f"{source.name} became shorter")
        self._left -= length
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]

    def _file(self, location: str) -> Path:
        """A file of the folder; nothing is opened."""
        refused = ValueError(
            f"refers to {str(location)[:60]!r}, not a file of the model's folder; put its data file beside it"
        )
        if not isinstance(location, str) or location in ("", "."):  # bytes: not UTF-8
            raise refused
        named = PurePosixPath(location)
        if "\0" in location or named.is_absolute() or ".." in named.parts:
            raise refused
        try:
            source = (self._folder / named).resolve()
            if not source.is_relative_to(self._folder) or not source.is_file():
                raise refused
        except (OSError, RuntimeError) as error:  # a name that is too long; links in a circle
            raise refused from error
        return source

    def _sha1(self, source: Path, size: int) -> str:
        if source not in self._digests:
            if size > MAX_FILE_BYTES:
                raise ValueError(f"{source.name} is too large")
            hasher = hashlib.sha1(usedforsecurity=False)  # which the format asks for
            with source.open("rb") as file:
                for chunk in iter(lambda: file.read(CHUNK), b""):
                    hasher.update(chunk)
            self._digests[source] = hasher.hexdigest()
        return self._digests[source]


def _natural(entries: dict[str, str], key: str, default: int) -> int:
    text = entries.get(key, str(default))
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(f"its {key} {str(text)[:80]!r} is not a number of bytes")
    return int(text)
