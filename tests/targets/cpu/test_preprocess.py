"""preprocess.c makes the same bits as calib/preprocess.py: weights, pixels, other processors, sanitizers, refusals."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from squeezeedge.calib.preprocess import MAX_PIXELS, Interpolation, Preprocessing
from squeezeedge.targets.cpu.library import compile_options
from tests.targets.cpu.programs import AARCH64, ARM, Machine
from tests.targets.devices import CHECKOUT

SOURCES = CHECKOUT / "targets" / "cpu"
FILTERS: tuple[Interpolation, ...] = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
"""In the order of their numbers in C."""
FORMATS = ("RGB", "BGR", "RGBA", "BGRA", "GRAY")


def built(compiler: str, folder: Path, *arguments: str) -> Path:
    """The cases as a program or a library."""
    source = Path(__file__).parent / "preprocess_cases.c"
    command = [
        compiler,
        *compile_options(),
        f"-I{SOURCES}",
        "-fvisibility=default",
        *arguments,
        str(source),
        "-o",
        str(folder / "cases"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "cases"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(built("cc", tmp_path_factory.mktemp("cases"), "-O2", "-shared", "-Wall", "-Werror")))
    loaded.preprocess.restype = loaded.preprocess_scratch.restype = ctypes.c_char_p
    return loaded


class How(ctypes.Structure):
    """``Preprocessing`` of preprocess.h."""

    _fields_ = [(name, ctypes.c_int32) for name in ("height", "width", "resize", "filter", "gray")]

    @classmethod
    def of(cls, preprocessing: Preprocessing) -> How:
        number = FILTERS.index(preprocessing.interpolation)
        return cls(*preprocessing.size, preprocessing.resize or 0, number, preprocessing.gray)


class Case(NamedTuple):
    """An image as a C program has it.

    Attributes:
        preprocessing: what to make of it.
        image: for Python.
        format: index into :data:`FORMATS`.
        stride: bytes from each row to the next one.
        data: from the first byte of a row to the last one of another.
        first: where the first row begins.
    """

    preprocessing: Preprocessing
    image: Image.Image
    format: int
    stride: int
    data: NDArray[np.uint8]
    first: int

    @property
    def input(self) -> bytes:
        """For the program."""
        how, (width, height) = How.of(self.preprocessing), self.image.size
        header = (how.height, how.width, how.resize, how.filter, how.gray, width, height, self.format, self.stride)
        return np.array(header, np.int32).tobytes() + self.data.tobytes()


def case(preprocessing: Preprocessing, pixels: NDArray[np.uint8], format: int, gap: int, upwards: bool) -> Case:
    """Lay out pixels, uint8 [height, width, channels], in rows that begin ``gap`` bytes behind the one before."""
    image = Image.fromarray(pixels[..., 0] if FORMATS[format] == "GRAY" else pixels[..., :3])
    ordered = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]] if FORMATS[format].startswith("BGR") else pixels
    rows = ordered.reshape(len(pixels), -1)
    stride = rows.shape[1] + gap
    padded = np.full((len(rows), stride), 0xA5, np.uint8)
    padded[:, : rows.shape[1]] = rows[::-1] if upwards else rows
    data = padded.reshape(-1)[: len(padded) * stride - gap]
    first = (len(rows) - 1) * stride if upwards else 0
    return Case(preprocessing, image, format, -stride if upwards else stride, data, first)


def noise(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """uint8 [height, width, 4]: noise between the extremes, or the extremes alone, on which filters overshoot."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2, (height, width, 4)) * 255 if seed % 3 else rng.integers(0, 256, (height, width, 4))
    return values.astype(np.uint8)


def random_case(rng: np.random.Generator, longest: int = 90) -> Case:
    """Any filter, format, size and layout; often a side of one pixel."""
    height, width, *size = (1 if rng.random() < 0.15 else int(longest ** rng.random()) for _ in range(4))
    resize = None if rng.random() < 0.4 or max(height, width) > 40 * min(height, width) else max(size)
    if resize is not None:
        resize += int(rng.integers(0, 9))
    interpolation = FILTERS[rng.integers(len(FILTERS))]
    format_ = int(rng.integers(len(FORMATS)))
    how = Preprocessing((size[0], size[1]), resize, interpolation=interpolation, gray=bool(rng.random() < 0.3))
    pixels = noise(height, width, int(rng.integers(1 << 30)))[..., : (3, 3, 4, 4, 1)[format_]]
    return case(how, pixels, format_, int(rng.integers(0, 3)), bool(rng.random() < 0.3))


def made_by(library: ctypes.CDLL, one: Case) -> NDArray[np.uint8]:
    how, (width, height), scratch = How.of(one.preprocessing), one.image.size, ctypes.c_int64()
    assert library.preprocess_scratch(ctypes.byref(how), width, height, ctypes.byref(scratch)) is None
    memory, image = np.empty(scratch.value, np.uint8), np.empty((*one.preprocessing.size, 3), np.uint8)
    address = ctypes.c_void_p(one.data.ctypes.data + one.first)
    places = (ctypes.c_void_p(memory.ctypes.data), ctypes.c_void_p(image.ctypes.data))
    failure = library.preprocess(
        ctypes.byref(how), address, width, height, ctypes.c_int64(one.stride), one.format, *places
    )
    assert failure is None, failure
    return image


def test_the_filters_are_all_that_there_are() -> None:
    assert set(FILTERS) == set(get_args(Interpolation))
    declared = (SOURCES / "preprocess.h").read_text()
    assert f"enum {{ {', '.join(FILTERS).upper()} }} Filter" in declared
    assert f"enum {{ {', '.join(FORMATS)} }} Format" in declared


def pillow_s_weights(name: Interpolation, source: int, target: int) -> NDArray[np.int32]:
    """int32 [source, target]: a row with one pixel of 2 ** 22, which Pillow scales in integers, becomes its weights."""
    impulses = Image.fromarray(np.eye(source, dtype=np.int32) << 22)
    return np.asarray(impulses.resize((target, source), Image.Resampling[name.upper()]))


LENGTHS = st.integers(1, 40) | st.integers(1, 400)


@given(name=st.sampled_from(FILTERS[1:]), source=LENGTHS, target=LENGTHS)
@example(name="lanczos", source=1, target=400)
@example(name="bicubic", source=1000, target=3)
@example(name="box", source=3, target=1000)
def test_weights_are_pillow_s(library: ctypes.CDLL, name: Interpolation, source: int, target: int) -> None:
    weights = np.zeros((source, target), np.int32)
    library.weights_of(FILTERS.index(name), source, target, ctypes.c_void_p(weights.ctypes.data))
    np.testing.assert_array_equal(weights, pillow_s_weights(name, source, target))


@settings(max_examples=150)
@given(seed=st.integers(0, 1 << 30))
def test_same_pixels_as_python(library: ctypes.CDLL, seed: int) -> None:
    one = random_case(np.random.default_rng(seed))
    np.testing.assert_array_equal(made_by(library, one), one.preprocessing(one.image))


@pytest.mark.parametrize(
    ("size", "resize", "height", "width"),
    [
        ((3, 5), None, 1, 40_000),
        ((1, 2), None, 40_000, 1),
        ((4, 5), 6, 3, 9_000),
        ((7, 4), 9, 9_000, 2),
        ((33, 200), None, 1, 1),
        ((224, 224), 256, 375, 500),
        ((224, 224), 256, 256, 300),
        ((10, 10), 11, 16, 11),
        ((9, 9), 9, 9, 9),
    ],
)
def test_sizes_at_the_limits(
    library: ctypes.CDLL, size: tuple[int, int], resize: int | None, height: int, width: int
) -> None:
    for name in FILTERS:
        how = Preprocessing(size, resize, interpolation=name)
        one = case(how, noise(height, width, 3)[..., :3], 0, 0, False)
        np.testing.assert_array_equal(made_by(library, one), how(one.image), err_msg=name)


def test_pillow_s_nearest_pixel_is_the_sum_of_steps(library: ctypes.CDLL) -> None:
    """It is rounded another way than their product: here at place 2 and at place 4."""
    for source, target in ((14, 5), (4, 6)):
        for size, shape in (((target, 1), (source, 1, 3)), ((1, target), (1, source, 3))):
            how = Preprocessing(size, None, interpolation="nearest")
            one = case(how, np.arange(3 * source, dtype=np.uint8).reshape(shape), 0, 0, False)
            np.testing.assert_array_equal(made_by(library, one), how(one.image))


def test_gray_is_rounded_as_in_pillow(library: ctypes.CDLL) -> None:
    """A luma of 51.5, and those beside it."""
    pixels = np.array([[[0, 52, 184], [0, 52, 183], [1, 52, 184]]], np.uint8)
    one = case(Preprocessing((1, 3), None, gray=True), pixels, 0, 0, False)
    assert made_by(library, one)[0, :, 1].tolist() == [52, 51, 52]
    np.testing.assert_array_equal(made_by(library, one), one.preprocessing(one.image))


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    """uint8 [17, 23, 3]: an edge, a ramp and a checkerboard."""
    y, x = np.mgrid[:17, :23]
    return np.stack([(x > y) * 255, (11 * x + 3 * y) % 256, (x + y) % 2 * 200 + 20], -1).astype(np.uint8)


def test_golden_images(library: ctypes.CDLL, picture: NDArray[np.uint8], golden: Callable[[str, str], None]) -> None:
    """A picture made smaller and larger by every filter: a file that no other version of Pillow changes."""
    lines = []
    for name in FILTERS:
        for resize in (7, 31):
            one = case(Preprocessing((5, 6), resize, interpolation=name), picture, 0, 0, False)
            lines += [f"{name} {resize}", *(row.tobytes().hex() for row in made_by(library, one))]
    golden("preprocess.txt", "\n".join([*lines, ""]))


def answers(program: Sequence[str], cases: Sequence[Case]) -> None:
    """The program makes of the cases what Python does, and says nothing."""
    done = subprocess.run(program, input=b"".join(one.input for one in cases), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"".join(one.preprocessing(one.image).tobytes() for one in cases)


@pytest.mark.slow
@pytest.mark.tool
def test_random_images_under_sanitizers(tmp_path: Path) -> None:
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed")
    sanitizers = "-fsanitize=address,undefined,integer"
    flags = ("-O1", "-g", "-fno-sanitize-recover=all", sanitizers, "-fno-sanitize=unsigned-integer-overflow")
    program = built("clang", tmp_path, *flags, "-fno-sanitize=implicit-integer-sign-change,unsigned-shift-base")
    rng = np.random.default_rng(0)
    answers([str(program)], [random_case(rng, 300) for _ in range(600)])


@pytest.mark.slow
@pytest.mark.tool
@pytest.mark.parametrize("machine", [AARCH64, ARM], ids=lambda machine: str(machine.triple))
def test_the_same_bits_on_other_processors(machine: Machine, tmp_path: Path) -> None:
    """Images, and each weight of some scalings."""
    machine.need()
    command = [*machine.emulator, str(built(machine.compiler, tmp_path, "-O2"))]
    rng = np.random.default_rng(1)
    answers(command, [random_case(rng) for _ in range(100)])
    asked = [(name, *rng.integers(1, 400, 2).tolist()) for name in FILTERS[1:] for _ in range(20)]
    headers = [(0, 0, 0, FILTERS.index(name), 0, source, target, -1, 0) for name, source, target in asked]
    done = subprocess.run(command, input=np.array(headers, np.int32).tobytes(), capture_output=True, check=True)
    assert done.stdout == b"".join(pillow_s_weights(name, source, target).tobytes() for name, source, target in asked)


def test_it_needs_no_c_library(tmp_path: Path) -> None:
    command = ["cc", "-ffreestanding", *compile_options(), "-c", str(SOURCES / "preprocess.c"), "-o", "made.o"]
    subprocess.run(command, cwd=tmp_path, check=True)
    listed = subprocess.run(["nm", "-P", "-u", "made.o"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert {line.split()[0] for line in listed.stdout.splitlines()} <= {"memcpy", "memset", "_GLOBAL_OFFSET_TABLE_"}


def test_weights_are_not_made_with_fast_math(tmp_path: Path) -> None:
    command = ["cc", "-ffast-math", "-fsyntax-only", str(SOURCES / "preprocess.c")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode and "compile without -ffast-math" in done.stderr


WHOLE, SHORTER = Preprocessing((4, 4), None), Preprocessing((4, 4), 5)


@pytest.mark.parametrize(
    ("how", "width", "height", "text"),
    [
        (WHOLE, 0, 5, b"at least one pixel"),
        (WHOLE, 5, -1, b"at least one pixel"),
        (WHOLE, 100_000, 100_000, b"too large: at most 89478485 pixels, 16777216 a side"),
        (WHOLE, (1 << 24) + 1, 1, b"too large"),
        (WHOLE, (1 << 31) - 1, (1 << 31) - 1, b"too large"),
        (SHORTER, 3_000_000, 1, b""),
        (Preprocessing((4, 4), 3000), 9944, 1, b"too elongated to scale"),
        (Preprocessing((4, 4), MAX_PIXELS), 1 << 24, 1, b"too elongated to scale"),
        (WHOLE, 1 << 24, 1, b""),
        (WHOLE, 1, 1, b""),
    ],
)
def test_sizes_that_are_refused(library: ctypes.CDLL, how: Preprocessing, width: int, height: int, text: bytes) -> None:
    bytes_ = ctypes.c_int64(-7)
    failure = library.preprocess_scratch(ctypes.byref(How.of(how)), width, height, ctypes.byref(bytes_))
    assert (text in failure and bytes_.value == -7) if text else (failure is None and bytes_.value > 0)
    if failure is not None:
        some, no_stride = ctypes.c_void_p(8), ctypes.c_int64(0)  # of which nothing is read
        again = library.preprocess(ctypes.byref(How.of(how)), some, width, height, no_stride, 0, some, some)
        assert again == failure


def test_the_limit_is_python_s() -> None:
    assert f"MOST_PIXELS = {MAX_PIXELS}," in (SOURCES / "preprocess.c").read_text()


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"pixels": None}, b"NULL"),
        ({"scratch": None}, b"NULL"),
        ({"image": None}, b"NULL"),
        ({"format": 5}, b"no such format"),
        ({"format": -1}, b"no such format"),
        ({"stride": 11}, b"the stride is shorter than a row"),
        ({"stride": -11}, b"the stride is shorter than a row"),
        ({"stride": 0}, b"the stride is shorter than a row"),
        ({"stride": 12}, None),
        ({"stride": 11, "format": 4}, None),
        ({"stride": 15, "format": 2}, b"the stride is shorter than a row"),
        ({"stride": -(2**63)}, b"the stride is too long"),
        ({"stride": 2**62}, b"the stride is too long"),
    ],
)
def test_arguments_that_are_refused(library: ctypes.CDLL, changed: dict[str, int | None], text: bytes | None) -> None:
    """Nothing is written then."""
    memory, image = np.zeros(10_000, np.uint8), np.full(48, 7, np.uint8)
    given_ = {
        "pixels": memory.ctypes.data,
        "width": 4,
        "height": 3,
        "stride": 12,
        "format": 0,
        "scratch": memory[100:].ctypes.data,
        "image": image.ctypes.data,
    } | changed
    kinds = {"stride": ctypes.c_int64, "width": ctypes.c_int32, "height": ctypes.c_int32, "format": ctypes.c_int32}
    arguments = [kinds.get(name, ctypes.c_void_p)(value) for name, value in given_.items()]  # type: ignore[arg-type]
    failure = library.preprocess(ctypes.byref(How.of(WHOLE)), *arguments)
    assert failure is None if text is None else text in failure
    assert (image == 7).all() == (text is not None)
