"""The one device program, in this process or as one of its own, on artifacts whose device is a few lines of numpy."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import os
import py_compile
import re
import resource
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from squeezeedge.calib.preprocess import DIGITS, Preprocessing
from squeezeedge.targets.device import run as program
from tests.targets.device.artifact import CLASSES, PREPROCESSING, SIZE, FakeArtifact, fake_sums, run_here


@pytest.fixture
def made(tmp_path: Path) -> FakeArtifact:
    return FakeArtifact(tmp_path / "an artifact")


@pytest.mark.slow
def test_it_checks_the_device(made: FakeArtifact) -> None:
    done = made.start()
    assert done.returncode == 0 and not done.stderr
    (line,) = done.lines
    assert line == {"golden": 3, "differing_sums": 0, "latency_ms": 2.0, "fake_ms": 1.0, "gain": 1, "fake": True}
    assert done.stdout.splitlines()[-1] == "closed"


def test_it_classifies_files_and_arrays(made: FakeArtifact, tmp_path: Path) -> None:
    np.save(tmp_path / "many.npy", made.images)
    np.save(tmp_path / "one.npy", made.images[1])
    Image.fromarray(np.full((20, 30, 3), 9, np.uint8)).save(tmp_path / "image.png")
    files = [tmp_path / name for name in ("many.npy", "one.npy", "image.png")]
    done = made.run(files[0], "--top", "2", files[1], files[2], "--sums")
    assert done.returncode == 0 and not done.stderr
    answers = done.lines
    assert [(Path(line["image"]).name, line["index"]) for line in answers] == [
        *(("many.npy", index) for index in range(3)),
        ("one.npy", 0),
        ("image.png", 0),
    ]
    expected = fake_sums(np.concatenate([made.images, made.images[1:2], np.full((1, *SIZE, 3), 9, np.uint8)]))
    assert [line["sums"] for line in answers] == expected.tolist()
    for line, sums in zip(answers, expected, strict=True):
        assert line.keys() == {
            *("image", "index", "classes", "labels", "logits", "scores", "sums", "latency_ms", "fake_ms"),
        }
        assert line["classes"] == [0, 1], "of equal logits the first class comes first"
        assert line["labels"] == ["one", "two"]
        assert line["logits"] == [sums[0] / 2, sums[1] / 4] == [sums[0] / 2] * 2
        assert line["scores"] == [1 / 3] * 2, "the third class has the same logit; the fourth's is far below"
        assert line["fake_ms"] == line["latency_ms"] / 2 > 0


def test_scores_are_the_softmax_of_the_logits(made: FakeArtifact, tmp_path: Path) -> None:
    """Also where the exponentials of the logits have no floating-point number."""
    scale = np.array([-1e-4, 3e-4, 1, -1e-5])
    made.change_manifest(lambda manifest: manifest.update(logit_scale=(scale * [1, 1, 1e-4, 1]).tolist()))
    np.save(tmp_path / "x.npy", made.images)
    answers = made.run(tmp_path / "x.npy", "--top", 4).lines
    for line, sums in zip(answers, made.sums, strict=True):
        logits = sums * scale * [1, 1, 1e-4, 1]
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(line["scores"], np.sort(expected)[::-1], rtol=1e-5)
        assert sum(line["scores"]) == pytest.approx(1)
    made.change_manifest(lambda manifest: manifest.update(logit_scale=[1000, -1000, -1000, -1000]))
    assert made.run(tmp_path / "x.npy").lines[0]["scores"] == [1, 0, 0, 0]


def test_logits_are_those_of_the_c_library(made: FakeArtifact, tmp_path: Path) -> None:
    """In float32: equal ones are equal everywhere, and the first class comes first."""
    scale = np.array([0.1, 0.3, 0.7, 1e-3], np.float32)
    made.change_manifest(lambda manifest: manifest.update(logit_scale=scale.tolist()))
    np.save(tmp_path / "x.npy", made.images)
    for line, sums in zip(made.run(tmp_path / "x.npy", "--top", 4).lines, made.sums, strict=True):
        assert line["logits"] == np.sort(sums.astype(np.float32) * scale)[::-1].tolist()


def test_images_are_answered_without_the_golden_inputs(made: FakeArtifact, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", made.images)
    (made.folder / "golden.npz").unlink()
    done = made.run(tmp_path / "x.npy")
    assert (done.returncode, len(done.lines), done.stderr) == (0, 3, "")
    text = r"golden\.npz: No such file or directory; copy the artifact again"
    assert made.fails(1, text) == made.fails(1, text, "--check", tmp_path / "x.npy") == []
    assert len(made.fails(1, text, tmp_path / "x.npy", "--measure", "3")) == 3


@pytest.mark.slow
def test_the_folder_stays_as_it_was(made: FakeArtifact) -> None:
    """No bytecode is written into it, and none that lies about device.py is executed."""
    device = made.folder / "device.py"
    (made.folder / "helper.py").write_text("")
    device.write_text(device.read_text().replace("import os\n", "import os\nimport helper\n"))
    made.seal()
    (made.folder / "other.py").write_text("raise SystemExit('other code')")
    cache = importlib.util.cache_from_source(str(device))
    py_compile.compile(
        str(made.folder / "other.py"), cache, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    before = sorted(made.folder.rglob("*"))
    done = made.start(alone=False)
    assert done.returncode == 0, done.stderr
    assert sorted(made.folder.rglob("*")) == before


def test_interrupted(made: FakeArtifact) -> None:
    done = made.run(FAKE_FAULT="interrupt")
    assert (done.returncode, done.stdout, done.stderr) == (130, "closed\n", "")


def test_golden_inputs_beside_images_only_if_asked(made: FakeArtifact, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", made.images)
    assert "golden" not in made.run(tmp_path / "x.npy").lines[0]
    first, *answers = made.run("--check", tmp_path / "x.npy", "--top", "9").lines
    assert first["golden"] == 3 and len(answers) == 3
    assert answers[0]["classes"] == [0, 1, 3, 2] or len(answers[0]["classes"]) == CLASSES
    assert "sums" not in answers[0]


def test_without_class_names(made: FakeArtifact, tmp_path: Path) -> None:
    made.change_manifest(lambda manifest: manifest.update(labels=[]))
    np.save(tmp_path / "x.npy", made.images)
    assert [line["labels"] for line in made.run(tmp_path / "x.npy").lines] == [None] * 3


def test_options_of_the_device(made: FakeArtifact) -> None:
    wrong = made.fails(4, "12 class sums differ from the golden ones", "--gain", 2)
    assert wrong[0]["gain"] == 2 and wrong[0]["differing_sums"] == 12
    golden, measured = made.run("--measure", 7).lines
    assert golden["golden"] == 3 and measured == {"measured": 7, "shape": [3, 6, 5, 3]}
    assert "--gain" in made.run("--help").stdout


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--top", "0"], "at least 1"),
        (["--top", "x"], "'x' must be a number"),
        (["--top", "\u00b2"], "a number"),
        (["--gain", "x"], "invalid int"),
        (["--nonsense"], "unrecognized"),
    ],
)
def test_usage(made: FakeArtifact, options: list[str], text: str) -> None:
    done = made.run(*options)
    assert done.returncode == 2 and text in done.stderr and not done.stdout


def test_the_standard_input(made: FakeArtifact) -> None:
    stream = io.BytesIO()
    for part in (made.images[:2], made.images[2]):
        np.save(stream, part)
    done = made.run("-", "--sums", stdin=stream.getvalue())
    assert done.returncode == 0, done.stderr
    assert [line["sums"] for line in done.lines] == made.sums.tolist()
    assert [line["index"] for line in done.lines] == [0, 1, 2], "of all images, so that none can be lost unnoticed"
    answered = made.run("-", stdin=stream.getvalue()[:-5]).fails(1, r"standard input: not an array in \.npy form")
    assert len(answered) == 2, "what came whole was answered"
    assert made.run("-", stdin=b"GET / HTTP/1.1\r\n\r\n").fails(1, "standard input: not an array") == []
    assert made.run("-").fails(1, "standard input: holds no images") == []
    assert made.run("-", "--check").returncode == 0, "the device is checked all the same"


@pytest.mark.slow
def test_the_tensors_of_the_first_image_in_a_file(made: FakeArtifact, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", made.images)
    done = made.run(tmp_path / "images.npy", tmp_path / "images.npy", "--trace", tmp_path / "made.npz")
    assert done.returncode == 0 and len(done.lines) == 6, done.stderr
    with np.load(tmp_path / "made.npz") as file:
        assert file.files == ["blocks/1", "head"]
        np.testing.assert_array_equal(file["blocks/1"], 255 - made.images[0])
        np.testing.assert_array_equal(file["head"], made.sums[0])


def test_the_tensors_of_every_image_in_lines(made: FakeArtifact, tmp_path: Path) -> None:
    """In front of the answers of their file."""
    np.save(tmp_path / "images.npy", made.images[:2])
    done = made.run(tmp_path / "images.npy", "--trace", "-")
    assert [next(iter(line)) for line in done.lines] == ["tensor"] * 4 + ["image"] * 2
    assert [(line["tensor"], line["index"]) for line in done.lines[:3]] == [
        ("blocks/1", 0),
        ("head", 0),
        ("blocks/1", 1),
    ]
    line = done.lines[2]
    assert (line["dtype"], line["shape"]) == ("uint8", [6, 5, 3])
    assert base64.b64decode(line["data"]) == (255 - made.images[1]).tobytes()


def test_a_trace_that_fails(made: FakeArtifact, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", made.images)
    made.fails(1, "shows nothing", tmp_path / "images.npy", "--trace", "-", FAKE_FAULT="no-trace")
    assert made.run("--trace", "made.txt").returncode == 2
    device = made.folder / "device.py"
    device.write_text(device.read_text().replace("def trace", "def other"))
    made.seal()
    assert made.run("--trace", "-").returncode == 2, "a device that has none does not offer it"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"head": "h", "tensors": [{}], "unseen": {}}', "[" * 10000])
def test_a_damaged_trace(made: FakeArtifact, text: str) -> None:
    (made.folder / "trace.json").write_text(text)
    made.seal()
    with pytest.raises(ValueError, match=r"trace\.json: damaged \(.*\); copy the artifact again"):
        program.Artifact(made.folder).trace()


def test_no_standard_streams(made: FakeArtifact, tmp_path: Path) -> None:
    """Nothing can be answered, which is no success; and an error is never printed as an answer."""
    command = f'"{sys.executable}" -I "{made.folder}/run.py" --check'
    done = subprocess.run(f"{command} >&-", shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "run.py: error: the standard output is closed, but answers are printed there\n"
    done = subprocess.run(f"{command} - <&-", shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "run.py: error: standard input: Bad file descriptor\n")
    (made.folder / "manifest.json").unlink()
    done = subprocess.run(f"{command} 2>&-", shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.slow
def test_a_full_disk(made: FakeArtifact) -> None:
    command = f'"{sys.executable}" -I "{made.folder}/run.py" > /dev/full'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode and "No space left on device" in done.stderr


def test_answers_come_while_the_input_is_open(made: FakeArtifact) -> None:
    command = [sys.executable, str(made.folder / "run.py"), "-", "--check"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        assert b"golden" in process.stdout.readline()
        for index, image in enumerate(made.images):
            array = io.BytesIO()
            np.save(array, image)
            process.stdin.write(array.getvalue())
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["index"] == index
        process.stdin.close()
        assert process.wait() == 0


def test_a_reader_that_goes_away(made: FakeArtifact, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.resize(made.images, (20000, *SIZE, 3)))
    command = f'"{sys.executable}" "{made.folder}/run.py" "{tmp_path}/x.npy" | head -1'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert not done.stderr and json.loads(done.stdout)["index"] == 0


def _write_archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))


def _write_huge(path: Path) -> None:
    """It declares 8 GiB, and holds 90 bytes."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (2**33 // 90, 6, 5, 3)}
        )
        file.write(bytes(90))


def _write_header(path: Path) -> None:
    """A PNG of 69 bytes that declares 100 million pixels."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 20000, 5000, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in chunks:
            file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


NO_IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a.npy": (
        lambda path: np.save(path, np.zeros((1, 6, 4, 3), np.uint8)),
        r"images must be uint8 \[N, 6, 5, 3\], not uint8 \[1, 6, 4, 3\]",
    ),
    "b.npy": (lambda path: np.save(path, np.zeros((6, 5, 3), np.float32)), r"images must be uint8 .*, not float32"),
    "c.npy": (
        lambda path: np.save(path, np.array([object()])),
        "Python objects in dtype.*; save images with numpy.save",
    ),
    "d.npy": (lambda path: path.write_bytes(b""), "No data left"),
    "e.npy": (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"), "EOF"),
    "f.npy": (_write_archive, "not one array but an archive"),
    "g.npy": (Path.mkdir, "this is a folder; name the files in it"),
    "g2.npy": (_write_huge, "mmap length is greater than file size; save images with numpy.save"),
    "g3.npy": (lambda path: np.save(path, np.zeros((0, 6, 5, 3), np.uint8)), "holds no images"),
    "h.npy": (lambda path: None, "No such file"),
    f"{'h' * 300}.npy": (lambda path: None, "File name too long"),
    "i.png": (
        lambda path: Image.fromarray(np.zeros((96, 96), np.uint16)).save(path),
        "its pixels have more than 8 bits a channel; convert the image to 8 bits$",
    ),
    "j.png": (_write_header, r"too large; at most \d+ pixels are decoded: scale the image down$"),
    "k.png": (lambda path: Image.new("L", (3000000, 1)).save(path), "too elongated to scale; crop the image$"),
    "l.tga": (lambda path: Image.new("RGB", (9, 9)).save(path), "TGA images are not read, only AVIF, BMP, .*; convert"),
    "m.png": (lambda path: path.write_bytes(b"no image"), "cannot identify image file .*; give a whole image file"),
    "n.heic": (lambda path: path.write_bytes(b"no image"), "HEIC images need the package pillow-heif: install it, or"),
}


def test_what_is_no_image(made: FakeArtifact, tmp_path: Path) -> None:
    """Each is one line that names the file and the reason; the others are answered."""
    np.save(tmp_path / "z.npy", made.images)
    for name, (write, _) in NO_IMAGES.items():
        write(tmp_path / name)
    done = made.run(*(tmp_path / name for name in (*NO_IMAGES, "z.npy")))
    *answers, last = done.lines
    assert done.returncode == 1 and len(answers) == 3
    assert last == {"unreadable": 6, "images": len(NO_IMAGES) + 1}, "arrays are no image files that cannot be read"
    errors = done.stderr.splitlines()
    for error, (name, (_, text)) in zip(errors, NO_IMAGES.items(), strict=True):
        assert re.match(rf"run\.py: error: .*{name}: .*{text}", error), error


def test_a_few_images_that_cannot_be_read_are_counted(made: FakeArtifact, tmp_path: Path) -> None:
    """Unless they are more than half, or --strict: then it is a failure, too."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    good, bad = [tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "c.png"
    for arguments, code, count in (((*good, bad), 0, 3), ((bad, *good, "--strict"), 1, 3), ((bad, bad, good[0]), 1, 3)):
        done = made.run(*arguments)
        *answers, last = done.lines
        assert done.returncode == code and done.stderr.count("c.png: ") == done.stderr.count("\n") == last["unreadable"]
        assert len(answers) + last["unreadable"] == last["images"] == count
    assert made.fails(1, r"c\.png: ", bad) == []
    assert len(made.run(*good, tmp_path / "gone.png").lines) == 2, "a name without a file is a mistake of another kind"
    assert made.run(*good, tmp_path / "gone.png").returncode == 1


def test_avif_is_read(made: FakeArtifact, tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), (200, 200, 200)).save(tmp_path / "a.avif")
    assert made.run(tmp_path / "a.avif").returncode == 0


@pytest.mark.slow
def test_the_memory_for_an_image_is_bounded(made: FakeArtifact, tmp_path: Path) -> None:
    """The largest that is taken is decoded in less than 2 GiB; a larger one is not decoded at all."""
    Image.new("L", (9000, 9000)).save(tmp_path / "x.png", compress_level=1)
    _write_header(tmp_path / "y.png")
    command = [sys.executable, "-I", str(made.folder / "run.py"), str(tmp_path / "x.png"), str(tmp_path / "y.png")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)),
    )
    assert done.returncode == 0 and done.stdout.count('"scores"') == 1
    assert re.fullmatch(r"run\.py: error: .*y\.png: too large; .*\n", done.stderr), done.stderr


@pytest.mark.slow
def test_no_pillow(made: FakeArtifact, tmp_path: Path) -> None:
    """An import of it fails; arrays work all the same."""
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").write_text("raise ImportError('FAKE: not here')")
    np.save(tmp_path / "x.npy", made.images)
    Image.new("RGB", (9, 9)).save(tmp_path / "x.png")
    text = r"x\.png: Pillow is needed to read image files .*pip install pillow"
    answers = made.start(tmp_path / "x.png", tmp_path / "x.npy", alone=False, PYTHONPATH=str(tmp_path))
    assert len(answers.fails(1, text)) == 3


def test_no_numpy(made: FakeArtifact, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('FAKE: not here')")
    done = made.start(alone=False, PYTHONPATH=str(tmp_path))
    done.fails(3, r"numpy is missing \(FAKE: not here\); .* -m pip install numpy")


def test_failures_of_the_device(made: FakeArtifact, tmp_path: Path) -> None:
    made.fails(3, "there is no FAKE device; plug it in", FAKE_FAULT="unavailable")
    assert made.fails(1, "the FAKE device is on fire", FAKE_FAULT="broken") == []
    np.save(tmp_path / "x.npy", made.images[0])
    arguments = (tmp_path / "x.npy", tmp_path / "x.npy")
    assert made.fails(1, "the FAKE device is on fire", *arguments, FAKE_FAULT="breaks") == []


def test_sums_may_differ_as_much_as_the_device_says(made: FakeArtifact) -> None:
    exact = made.fails(4, "12 class sums differ from the golden ones", FAKE_FAULT="near")
    assert "largest_error" not in exact[0] and exact[0]["differing_sums"] == 12
    (line,) = made.run(FAKE_FAULT="near", FAKE_TOLERANCE="0.01").lines
    assert line["differing_sums"] == 12 and line["largest_error"] == 1 / made.sums.max()
    text = r"12 class sums differ .*, by 2.*e-05 of the largest; 1e-05 is allowed"
    assert made.fails(4, text, FAKE_FAULT="near", FAKE_TOLERANCE="1e-5")[0]["largest_error"] > 1e-5


@pytest.mark.parametrize("name", ["device.py", "weights.bin", "golden.npz"])
def test_changed_and_missing_files(made: FakeArtifact, name: str) -> None:
    """A changed device.py is not executed."""
    path = made.folder / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert made.fails(1, rf"{name}: differs from its checksum in manifest\.json; copy the artifact again") == []
    path.write_bytes(data + b"\n")
    assert made.fails(1, rf"{name}: differs from its checksum") == []
    path.unlink()
    assert made.fails(1, rf"{name}: No such file or directory; copy the artifact again") == []
    path.write_bytes(data)
    made.change_manifest(lambda manifest: manifest["files"].pop(name))
    assert made.fails(1, rf"{name}: manifest\.json does not list it; copy the artifact again") == []


def _golden(**arrays: Any) -> bytes:  # noqa: ANN401
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    return data.getvalue()


IMAGES = np.arange(2 * 90, dtype=np.uint8).reshape(2, 6, 5, 3)
GOLDEN = _golden(images=IMAGES, sums=fake_sums(IMAGES))


def _flipped(position: int) -> bytes:
    """One byte of the compressed images changed."""
    with zipfile.ZipFile(io.BytesIO(GOLDEN)) as archive:
        offset = archive.getinfo("images.npy").header_offset
    data = bytearray(GOLDEN)
    data[offset + position] ^= 0xFF
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        GOLDEN[:100],
        GOLDEN[:-30],
        _flipped(60),
        _flipped(90),
        _flipped(120),
        IMAGES.tobytes(),
        _golden(images=IMAGES),
        _golden(images=IMAGES, sums=fake_sums(IMAGES).astype(np.int64)),
        _golden(images=IMAGES, sums=fake_sums(IMAGES)[:, :3]),
        _golden(images=IMAGES, sums=fake_sums(IMAGES)[:1]),
        _golden(images=IMAGES[:, 1:], sums=fake_sums(IMAGES)),
        _golden(images=IMAGES.astype(np.int16), sums=fake_sums(IMAGES)),
        _golden(images=IMAGES[:0], sums=fake_sums(IMAGES)[:0]),
        _golden(images=np.array([object()]), sums=fake_sums(IMAGES)),
    ],
)
def test_golden_inputs_that_are_damaged_though_their_checksum_fits(made: FakeArtifact, data: bytes) -> None:
    (made.folder / "golden.npz").write_bytes(data)
    made.seal()
    with pytest.raises(ValueError, match=r"golden\.npz: damaged \(.*\); copy the artifact again, or compile the model"):
        program.Artifact(made.folder).golden()


def test_golden_inputs_that_unpack_to_more_than_a_network_has(
    made: FakeArtifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made.folder / "golden.npz").write_bytes(GOLDEN)
    made.seal()
    program.Artifact(made.folder).golden()
    monkeypatch.setattr(program, "MAX_PIXELS", 100)
    with pytest.raises(ValueError, match=r"golden\.npz: damaged \(ValueError\('too large'\)\)"):
        program.Artifact(made.folder).golden()


def test_what_is_not_listed_is_not_opened(made: FakeArtifact, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = program.Artifact(made.folder)
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("opened"))
    for name in ("/etc/passwd", "../x", "manifest.json", "a\0b", "x" * 5000):
        for read in (artifact.path, artifact.read):
            with pytest.raises(ValueError, match=r"manifest\.json does not list it"):
                read(name)


def test_what_is_no_file(made: FakeArtifact) -> None:
    """A pipe would be waited for; a large file is not read to find that it is another one."""
    path = made.folder / "weights.bin"
    path.unlink()
    os.mkfifo(path)
    assert made.fails(1, r"weights\.bin: differs from its checksum") == []
    path.unlink()
    path.touch()
    os.truncate(path, 1 << 40)
    assert made.fails(1, r"weights\.bin: differs from its checksum") == []


def test_damaged_golden_inputs_are_one_line(made: FakeArtifact) -> None:
    (made.folder / "golden.npz").write_bytes(GOLDEN[:-30])
    made.seal()
    assert made.fails(1, r"golden\.npz: damaged \(BadZipFile.*\); copy the artifact again") == []


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", "null", '{"input": 3}', "[" * 100_000, "\udcff"])
def test_a_manifest_that_is_none(made: FakeArtifact, text: str) -> None:
    (made.folder / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"manifest\.json: damaged \(.*\); copy the artifact again"):
        program.Artifact(made.folder)


CHANGES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    *((lambda m, key=key: m.pop(key), key) for key in ("input", "labels", "logit_scale", "files", "compiled")),
    (lambda m: m.pop("preprocessing"), "preprocessing"),
    (lambda m: m.update(input=[6, 5]), "unpack"),
    (lambda m: m.update(input=[6, 5, 4]), "input"),
    (lambda m: m.update(input=[6, -5, 3]), "-5 is not a number of 1 or more"),
    (lambda m: m.update(input=[6, 5.0, 3]), "5.0 is not a number"),
    (lambda m: m.update(input=[1 << 40, 1 << 40, 3]), "input"),
    (lambda m: m.update(labels=["one"]), "labels"),
    (lambda m: m.update(labels="four"), "labels"),
    (lambda m: m.update(labels=[1, 2, 3, 4]), "labels"),
    (lambda m: m.update(logit_scale=[]), "logit_scale"),
    (lambda m: m.update(logit_scale=[1, 2, 3, "4"]), "logit_scale"),
    (lambda m: m.update(logit_scale=[1, 2, 3, float("nan")]), "logit_scale"),
    (lambda m: m.update(logit_scale=[1, 2, 3, 10**400]), "logit_scale"),
    (lambda m: m.update(logit_scale=[1, 2, 3, 5e29]), "logit_scale"),  # times a class sum, no float32
    (lambda m: m.update(compiled=[]), "compiled"),
    (lambda m: m["preprocessing"].update(size=[5, 6]), "size"),
    (lambda m: m["preprocessing"].update(resize=5), "resize"),
    (lambda m: m["preprocessing"].update(resize="8"), "'8' is not a number"),
    (lambda m: m["preprocessing"].update(interpolation="open"), "interpolation"),
    (lambda m: m["preprocessing"].update(interpolation=[]), "interpolation"),
    (lambda m: m["preprocessing"].update(channel_order="bgr"), "channel_order"),
    (lambda m: m.update(files=[]), "items"),
    (lambda m: m["files"].update({"weights.bin": None}), "subscriptable"),
    (lambda m: m["files"]["weights.bin"].pop("sha256"), "sha256"),
    (lambda m: m["files"]["weights.bin"].update(bytes="16"), "weights.bin"),
    *(
        (lambda m, name=name: m["files"].update({name: {"bytes": 0, "sha256": ""}}), "outside of the folder")
        for name in ("../x", "/etc/passwd", "a/../../x", "", ".")
    ),
]


@pytest.mark.parametrize(("change", "text"), CHANGES)
def test_a_damaged_manifest(made: FakeArtifact, change: Callable[[dict[str, Any]], object], text: str) -> None:
    made.change_manifest(change)
    with pytest.raises(ValueError, match=rf"manifest\.json: damaged \(.*{text}.*\); copy the artifact again"):
        program.Artifact(made.folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["labels"].reverse(),
        lambda manifest: manifest["logit_scale"].reverse(),
        lambda manifest: manifest["preprocessing"].update(interpolation="nearest"),
        lambda manifest: manifest["compiled"].update(tolerance=1),
    ],
)
def test_a_manifest_that_somebody_changed(made: FakeArtifact, change: Callable[[dict[str, Any]], object]) -> None:
    """It is sound, but what answers mean is not what was compiled."""
    change(made.manifest)
    made.write_manifest(made.manifest)
    text = r"manifest\.json: damaged .*one of input, preprocessing, labels, logit_scale, compiled was changed"
    assert made.fails(1, text) == []


def test_a_damaged_manifest_is_one_line(made: FakeArtifact) -> None:
    made.change_manifest(lambda manifest: manifest.pop("labels"))
    made.fails(1, r"manifest\.json: damaged \(KeyError\('labels'\)\); copy the artifact again")


def test_a_link_cannot_lead_outside(made: FakeArtifact, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (made.folder / "weights2.bin").symlink_to(tmp_path / "secret")
    made.seal()
    made.fails(1, r"manifest\.json: damaged .*weights2\.bin.* is outside of the folder")


def test_links_in_a_circle(made: FakeArtifact) -> None:
    (made.folder / "circle").symlink_to("circle")
    made.change_manifest(lambda manifest: manifest["files"].update(circle={"bytes": 0, "sha256": ""}))
    done = made.run()
    assert (done.returncode, done.stderr.count("\n")) in ((0, 0), (1, 1)), "depends on Python's version"


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 5000])
def test_odd_names_in_a_manifest(made: FakeArtifact, name: str) -> None:
    made.change_manifest(lambda manifest: manifest["files"].update({name: {"bytes": 0, "sha256": ""}}))
    done = made.run("--top", "1")
    assert (done.returncode, done.stderr.count("\n")) in ((0, 0), (1, 1)), done.stderr


def test_no_manifest(made: FakeArtifact) -> None:
    (made.folder / "manifest.json").unlink()
    made.fails(1, r"manifest\.json: missing, so this folder is no artifact")


def test_a_folder_of_another_name_that_is_linked(made: FakeArtifact, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(made.folder)
    assert run_here(tmp_path / "link").returncode == 0


SIZES = [(96, 96), (97, 130), (131, 96), (333, 250), (255, 64), (65, 257)]
PREPROCESSINGS = [
    DIGITS,
    PREPROCESSING,
    Preprocessing(size=(64, 64), resize=64),
    Preprocessing(size=(48, 61), resize=65, interpolation="bicubic"),
    Preprocessing(size=(31, 40), resize=None, interpolation="nearest"),
    Preprocessing(size=(31, 40), resize=44, interpolation="lanczos", gray=True),
    Preprocessing(size=(40, 31), resize=None, interpolation="box"),
    Preprocessing(size=(8, 8), resize=9, interpolation="hamming"),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_the_same_pixels_as_in_calibration(tmp_path: Path, size: tuple[int, int], mode: str) -> None:
    pixels = np.random.default_rng(sum(size)).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    path = tmp_path / "image.png"
    options: dict[str, Any] = {"transparency": 3} if mode == "P" else {}
    Image.fromarray(pixels).convert(mode).save(path, **options)
    for preprocessing in PREPROCESSINGS:
        with Image.open(path) as image:
            expected = preprocessing(image)
        np.testing.assert_array_equal(program.read_images(path, preprocessing.to_json())[0], expected)
