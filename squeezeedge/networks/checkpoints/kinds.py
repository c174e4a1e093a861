"""What a file is by its content, whatever its name says: for messages, and for endings that several formats share."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

__all__ = ["Kind", "describe_folder", "kind_of"]

HEAD_BYTES = 1 << 16
"""So much of a file tells its kind, but for an archive."""
EXPORT = "export the network to ONNX and give that"


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: with an article.
        format: of checkpoints that are read, as in :data:`squeezeedge.networks.endings.FORMATS`; empty: of others.
        fix: what to do with a file of a kind that is not read, or that has another format's ending.
    """

    name: str
    format: str
    fix: str


PYTORCH = Kind("a PyTorch file", "PyTorch", "give it the ending .pth")
SAFETENSORS = Kind("a safetensors file", "safetensors", "give it the ending .safetensors")
_STARTS: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"\x89HDF\r\n\x1a\n", Kind("an HDF5 file, as Keras and TensorFlow write", "", EXPORT)),
    (4, b"TFL3", Kind("a TensorFlow Lite model", "", EXPORT)),
    (0, b"GGUF", Kind("a GGUF file", "", EXPORT)),
    (0, b"\x89SQE\r\n\x1a\n", Kind("an integer graph of squeezeedge", "", "give it the ending .sqe")),
    (0, b"\x93NUMPY", Kind("an array of numpy", "", "save the network's state dict with torch.save")),
    (0, b"version https://git-lfs", Kind("a pointer of Git LFS, not the file", "", "fetch the file: git lfs pull")),
    (0, b"\x1f\x8b", Kind("a gzip archive", "", "unpack it first")),
    (0, b"\xfd7zXZ\0", Kind("an xz archive", "", "unpack it first")),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("a 7-Zip archive", "", "unpack it first")),
    (0, b"BZh", Kind("a bzip2 archive", "", "unpack it first")),
    (0, b"\x28\xb5\x2f\xfd", Kind("a Zstandard archive", "", "unpack it first")),
    (0, b"Rar!", Kind("a RAR archive", "", "unpack it first")),
    (257, b"ustar", Kind("a tar archive", "", "unpack it first; PyTorch before 0.1.10 saved so: save it again")),
    (0, b"\x89PNG", Kind("a PNG image", "", "give a network's file")),
    (0, b"\xff\xd8\xff", Kind("a JPEG image", "", "give a network's file")),
    (0, b"\x7fELF", Kind("a program or library", "", "give a network's file")),
)
"""(place, bytes there, kind)."""

_TORCHSCRIPT = Kind(
    "a TorchScript archive (torch.jit.save)",
    "",
    "save its tensors: torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')",
)
_EXPORTED = Kind("an exported program (torch.export.save)", "", "export the network to ONNX, or save its state_dict")
_KERAS = Kind("a Keras model", "", EXPORT)
_NPZ = Kind("an archive of numpy arrays (.npz)", "", "save the network's state dict with torch.save")
_ZIP = Kind("a zip archive", "", "unpack it first")
_PAGE = Kind("a web page, not the file", "", "download the file itself")
_INDEX = Kind(
    "the index of weights in several files",
    "",
    "load them with the library that wrote them and save them as one file: "
    "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')",
)
_JSON = Kind("JSON text", "", "give the file with the weights")
_PICKLE = Kind("a pickle", "PyTorch", PYTORCH.fix)
_TORCH_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""The number that files of before PyTorch 1.6 begin with, as pickles write it."""

_ARCHIVES: tuple[tuple[Callable[[str], bool], Kind], ...] = (
    (lambda name: name.endswith("/constants.pkl") or "/code/__torch__" in name, _TORCHSCRIPT),
    (lambda name: name.endswith(("serialized_exported_program.json", "/models/model.json")), _EXPORTED),
    (lambda name: name.endswith("data.pkl"), PYTORCH),
    (lambda name: name == "model.weights.h5", _KERAS),
    (lambda name: name.endswith(".npy"), _NPZ),
)
"""A name in a zip archive -> what the archive is; the first that fits any of its names."""


def kind_of(data: bytes) -> Kind | None:
    """The kind of a file that begins with these bytes; of an archive, all of them are needed.

    Returns:
        ``None`` if it is not known. MindSpore's, Deep Compression's and ONNX's files have no mark to know them by.
    """
    for place, mark, kind in _STARTS:
        if data[place : place + len(mark)] == mark:
            return kind
    if data.startswith(b"PK\x03\x04"):
        return _archive(data)
    if data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return PYTORCH if _TORCH_MAGIC in data[:32] else _PICKLE
    if data[8:9] == b"{" and 2 <= int.from_bytes(data[:8], "little") <= 1 << 30:
        return SAFETENSORS
    text = data[:HEAD_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n")
    if re.match(rb"<(!doctype|html|\?xml)", text[:16].lower()):
        return _PAGE
    if re.match(rb'[{\[]\s*["{\[]', text[:64]):
        return _INDEX if b'"weight_map"' in text else _JSON
    return None


def _archive(data: bytes) -> Kind | None:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return None  # its reader says what is wrong
    return next((kind for fits, kind in _ARCHIVES if any(map(fits, names))), _ZIP)


_FOLDERS: Mapping[str, tuple[str, str]] = {
    "zero_to_fp32.py": ("a checkpoint of DeepSpeed", "join its parts: python zero_to_fp32.py FOLDER weights.bin"),
    "saved_model.pb": ("a SavedModel of TensorFlow", EXPORT),
    "model.safetensors.index.json": (_INDEX.name, _INDEX.fix),
    "pytorch_model.bin.index.json": (_INDEX.name, _INDEX.fix),
    "model.safetensors": ("a folder with a checkpoint", "give model.safetensors in it"),
    "pytorch_model.bin": ("a folder with a checkpoint", "give pytorch_model.bin in it"),
}
"""A file in a folder -> what the folder is, and the fix."""


def describe_folder(folder: Path) -> tuple[str, str]:
    """What a folder that was given as a checkpoint is, and what to do."""
    for name, found in _FOLDERS.items():
        if (folder / name).exists():
            return found
    return "a folder", "give a file in it"
