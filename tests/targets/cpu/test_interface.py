"""What C programs see: the documented program, logits and names beside Python's, several networks, the header."""

import ctypes
import dataclasses
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.targets.cpu.interface import HEADER, Interface
from tests.graphs import GraphBuilder, random_images
from tests.targets.cpu.conftest import CompiledFor
from tests.targets.cpu.programs import AARCH64, ARM, EXAMPLE, HERE, Machine, documented_program
from tests.targets.devices import CHECKOUT

BAD_ARGUMENT = -2
LABELS = ("cat", 'a "quoted"\\ one', "??/ über\n%s", "山", "", "tab\tand 7", "*/")


def labelled(seed: int, name: str = "net") -> IntegerGraph:
    """A small graph with awkward class names and very different scales."""
    builder = GraphBuilder(np.random.default_rng(seed), (7 + seed, 9))
    graph = builder.finish(builder.conv(IMAGE, 9 + seed, (3, 3)), 9 + seed)
    scale = graph.head.scale * np.exp2(np.arange(graph.classes, dtype=np.float32)) * np.float32(1.1)
    head = dataclasses.replace(graph.head, scale=scale)
    labels = tuple(f"{LABELS[i % len(LABELS)]}{i or ''}" for i in range(graph.classes))
    return dataclasses.replace(graph, name=name, nodes=(*graph.nodes[:-1], head), labels=labels)


@pytest.fixture(scope="module")
def graph() -> IntegerGraph:
    return labelled(3)


@pytest.fixture(scope="module")
def folder(graph: IntegerGraph, compiled_for: CompiledFor) -> Path:
    return compiled_for(HERE, graph)[0]


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    weights: NDArray[np.float64] = np.exp(logits.astype(np.float64) - logits.max())
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def check_documented(machine: Machine, graph: IntegerGraph, folder: Path, arguments: list[str | Path]) -> None:
    """The documented program's answers are Python's: classes, bits of the logits, probabilities, names."""
    program = machine.build(documented_program(), folder, [f"-I{folder}", *arguments])
    sizes = (graph.input_shape[:2], (23, 31), (4, 3))
    pictures = [Image.fromarray(np.random.default_rng(7).integers(0, 256, (*size, 3), np.uint8)) for size in sizes]
    images = np.stack([graph.preprocessing(picture) for picture in pictures])
    for picture, logits in zip(pictures, graph.logits(run(graph, images)), strict=True):
        picture.save(folder / "image", format="PPM")
        done = machine.run(program, folder / "image")
        assert done.returncode == 0, done.stderr
        best = np.argsort(-logits, kind="stable")[:5]
        expected = "".join(f"{c} \0 \0 {graph.labels[c] if graph.labels else ''}\n" for c in best)
        pattern = re.escape(expected).replace("\0", r"(\S+)")
        found = re.fullmatch(pattern, done.stdout.decode())
        assert found, done.stdout
        printed = found.groups()
        assert [float.fromhex(text) for text in printed[::2]] == [float(logits[c]) for c in best]
        np.testing.assert_allclose([float(text) for text in printed[1::2]], softmax(logits)[best], rtol=1e-6)


@pytest.mark.slow
def test_the_documented_program(graph: IntegerGraph, folder: Path) -> None:
    check_documented(HERE, graph, folder, [f"-L{folder}", "-lnet", f"-Wl,-rpath,{folder}"])


def test_a_program_looks_for_the_library_by_its_name(folder: Path, tmp_path: Path) -> None:
    """It is linked by its path, and runs when the library is elsewhere."""
    (tmp_path / "built").mkdir()
    shutil.copy(folder / "libnet.so", tmp_path / "built")
    arguments: list[str | Path] = [f"-I{folder}", tmp_path / "built" / "libnet.so"]
    program = HERE.build(
        '#include "squeezeedge.h"\nint main(void) { return !squeezeedge_label(0); }', tmp_path, arguments
    )
    (tmp_path / "built").rename(tmp_path / "installed")
    for place, code in (("built", 127), ("installed", 0)):
        environment = {"LD_LIBRARY_PATH": str(tmp_path / place)}
        assert subprocess.run([program], env=environment, capture_output=True, check=False).returncode == code


def test_the_documented_program_with_the_archive(graph: IntegerGraph, folder: Path) -> None:
    check_documented(HERE, graph, folder, [folder / "libnet.a", "-pthread", "-lm"])


@pytest.mark.slow
@pytest.mark.tool
@pytest.mark.parametrize("machine", [AARCH64, ARM], ids=lambda machine: str(machine.triple))
@pytest.mark.parametrize("static", [False, True], ids=["shared", "static"])
def test_the_documented_program_on_a_board(
    machine: Machine, static: bool, graph: IntegerGraph, compiled_for: CompiledFor
) -> None:
    machine.need()
    folder, _ = compiled_for(machine, graph)
    shared: list[str | Path] = [f"-L{folder}", "-lnet", f"-Wl,-rpath,{folder}"]
    check_documented(machine, graph, folder, [folder / "libnet.a", "-pthread", "-lm"] if static else shared)


def test_the_documented_commands(folder: Path, tmp_path: Path, graph: IntegerGraph) -> None:
    commands = re.findall(r"^cc .*", (CHECKOUT / "docs" / "c-interface.md").read_text(), re.MULTILINE)
    (tmp_path / "net-cpu").symlink_to(folder)
    (tmp_path / "classify.c").write_text(documented_program())
    Image.fromarray(random_images(graph, 1, 0)[0]).save(tmp_path / "image", format="PPM")
    answers = set()
    for command in commands:
        subprocess.run(command, shell=True, cwd=tmp_path, check=True)
        environment = {"LD_LIBRARY_PATH": "net-cpu"} if "-lnet" in command else {}
        run_it = subprocess.run(["./classify", "image"], cwd=tmp_path, env=environment, capture_output=True, check=True)
        answers.add(run_it.stdout)
    assert len(commands) == 2 and len(answers) == 1


@pytest.mark.slow
@pytest.mark.parametrize("static", ["ON", "OFF"])
def test_the_documented_cmake_file(folder: Path, tmp_path: Path, graph: IntegerGraph, static: str) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    where = ["cmake", "-S", str(EXAMPLE), "-B", str(tmp_path), f"-DARTIFACT={folder}", f"-DSTATIC={static}"]
    for command in (where, ["cmake", "--build", str(tmp_path)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    Image.fromarray(random_images(graph, 1, 0)[0]).save(tmp_path / "image", format="PPM")
    answered = HERE.run(tmp_path / "classify", tmp_path / "image")
    assert answered.returncode == 0 and len(answered.stdout.splitlines()) >= 5
    done = subprocess.run([*where, "-DPREFIX=other"], capture_output=True, text=True, check=False)
    assert done.returncode and "has no libother.a; give the artifact" in " ".join(done.stderr.split())


def test_the_documentation_shows_the_program() -> None:
    text, program = (CHECKOUT / "docs" / "c-interface.md").read_text(), documented_program().splitlines()
    (shown,) = re.findall(r"```text\n(if \(squeezeedge.*?)```", text, re.DOTALL)
    assert {line.strip() for line in shown.splitlines()} <= {line.strip() for line in program}


def test_the_documented_program_refuses_what_is_no_image(folder: Path, tmp_path: Path) -> None:
    program = HERE.build(documented_program(), tmp_path, [f"-I{folder}", folder / "libnet.a", "-pthread", "-lm"])
    for data, text in (
        (b"P5 1 1 255\n...", b"not a binary PPM"),
        (b"P6 1 1 65535\n......", b"not a binary PPM"),
        (b"P6 2 1 255\n.....", b"the file ends early"),
        (b"P6 0 1 255\n", b"at least one pixel"),
    ):
        (tmp_path / "image").write_bytes(data)
        done = HERE.run(program, tmp_path / "image")
        assert done.returncode == 1 and text in done.stderr


def test_the_largest_sum_is_not_the_answer(graph: IntegerGraph) -> None:
    """Why there are logits: what is tested here differs from an argmax over the sums."""
    sums = run(graph, random_images(graph, 20, 0))
    assert (sums.argmax(1) != graph.logits(sums).argmax(1)).any()


@pytest.fixture(scope="module")
def library(folder: Path) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(folder / "libnet.so"))
    for name in ("label", "error"):
        getattr(loaded, f"net_{name}").restype = ctypes.c_char_p
    loaded.net_scale.restype = ctypes.POINTER(ctypes.c_float)
    assert loaded.net_open(2, None) == 0
    return loaded


def pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_logits_and_scales_are_python_s_bits(graph: IntegerGraph, library: ctypes.CDLL, count: int) -> None:
    """Of one image, which threads share, and of batches, whose images are not where vectors would be aligned."""
    images = random_images(graph, count, 1)
    logits = np.full((count + 1, graph.classes), -7, np.float32)
    assert library.net_logits(pointer(images), count, pointer(logits)) == 0
    assert logits[:count].tobytes() == graph.logits(run(graph, images)).tobytes() and (logits[count] == -7).all()
    scale = np.ctypeslib.as_array(library.net_scale(), (graph.classes,))
    assert scale.tobytes() == graph.head.scale.tobytes()


def test_what_the_kernels_leave(graph: IntegerGraph, library: ctypes.CDLL) -> None:
    """The sums are those of a run, with and without a function that looks at it; it gets every kernel's bytes."""
    (image,), kernels = random_images(graph, 1, 1), list[tuple[int, bool, int]]()
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64)
    seen = kind(lambda user, kernel, address, size: kernels.append((kernel, user == 7 and bool(address), size)))
    for looks in (None, seen):
        sums = np.empty(graph.classes, np.int32)
        assert library.net_trace(pointer(image), pointer(sums), looks, ctypes.c_void_p(7)) == 0
        np.testing.assert_array_equal(sums, run(graph, image[None])[0])
    assert [(kernel, given) for kernel, given, _ in kernels] == [(0, True), (1, True), (2, True)]
    assert kernels[1][2] >= graph.tensors[graph.nodes[0].name].shape.channels and kernels[2][2] >= 4 * graph.classes
    assert library.net_trace(None, pointer(sums), seen, None) == BAD_ARGUMENT and len(kernels) == 3


def test_the_clock_between_the_kernels(graph: IntegerGraph, library: ctypes.CDLL) -> None:
    """The sums are those of a run; the clock is read before the kernels and after each, and never goes back."""
    (image,) = random_images(graph, 1, 1)
    kernels = ctypes.c_int32.in_dll(library, "net_kernels").value
    assert kernels == 3, "the image's copy, a convolution, the head"
    sums, times = np.empty(graph.classes, np.int32), np.full(kernels + 2, -1, np.int64)
    assert library.net_profile(pointer(image), pointer(sums), pointer(times)) == 0
    np.testing.assert_array_equal(sums, run(graph, image[None])[0])
    assert times[0] > 0 and (np.diff(times[:-1]) >= 0).all() and times[-1] == -1
    for given in ((None, sums, times), (image, None, times), (image, sums, None)):
        assert library.net_profile(*(None if one is None else pointer(one) for one in given)) == BAD_ARGUMENT


def test_names(graph: IntegerGraph, library: ctypes.CDLL) -> None:
    assert [library.net_label(i).decode() for i in range(graph.classes)] == list(graph.labels)
    assert library.net_label(-1) is None and library.net_label(graph.classes) is None


def test_the_best(graph: IntegerGraph, library: ctypes.CDLL) -> None:
    """Equal logits rank by index; fewer classes than asked for are all."""
    logits = np.random.default_rng(0).integers(-3, 4, graph.classes).astype(np.float32)
    for count in (0, 1, graph.classes, graph.classes + 5):
        classes = np.full(graph.classes + 1, -7, np.int32)
        probabilities = np.full(graph.classes + 1, -7, np.float32)
        found = library.net_top(pointer(logits), count, pointer(classes), pointer(probabilities))
        best = np.argsort(-logits, kind="stable")[:count]
        assert found == len(best) and classes[:found].tolist() == best.tolist() and (classes[found:] == -7).all()
        np.testing.assert_allclose(probabilities[:found], softmax(logits)[best], rtol=1e-6)
        assert (probabilities[found:] == -7).all()
    assert library.net_top(pointer(logits), 1, pointer(classes), None) == 1
    assert library.net_top(None, 1, pointer(classes), None) == BAD_ARGUMENT
    assert library.net_top(pointer(logits), -1, pointer(classes), None) == BAD_ARGUMENT
    assert b"NULL" in library.net_error()


@pytest.mark.parametrize("place", [0, 3, -1])
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf])
def test_logits_that_are_none(graph: IntegerGraph, library: ctypes.CDLL, place: int, value: float) -> None:
    """They have no order and no probabilities; nothing is written."""
    logits = np.arange(graph.classes, dtype=np.float32)
    logits[place] = value
    classes, probabilities = np.full(3, -7, np.int32), np.full(3, -7, np.float32)
    for room in (pointer(probabilities), None):
        assert library.net_top(pointer(logits), 3, pointer(classes), room) == BAD_ARGUMENT
        assert library.net_error() == b"a logit is NaN or infinite"
    assert (classes == -7).all() and (probabilities == -7).all()


def test_minus_infinity_excludes_a_class(graph: IntegerGraph, library: ctypes.CDLL) -> None:
    logits = np.full(graph.classes, -np.inf, np.float32)
    classes, probabilities = np.empty(graph.classes, np.int32), np.empty(graph.classes, np.float32)
    assert library.net_top(pointer(logits), 3, pointer(classes), pointer(probabilities)) == BAD_ARGUMENT
    logits[4:6] = 1, 1
    found = library.net_top(pointer(logits), graph.classes, pointer(classes), pointer(probabilities))
    assert found == graph.classes and classes[:3].tolist() == [4, 5, 0]
    assert probabilities[:2].tolist() == [0.5, 0.5] and not probabilities[2:].any()


def test_null_is_an_error_with_a_text(graph: IntegerGraph, library: ctypes.CDLL) -> None:
    image, room = random_images(graph, 1, 0)[0], np.empty(graph.classes, np.int32)
    for function in (library.net_run, library.net_logits):
        assert function(None, 1, pointer(room)) == BAD_ARGUMENT and b"NULL" in library.net_error()
        assert function(pointer(image), 1, None) == BAD_ARGUMENT and b"NULL" in library.net_error()
        assert function(pointer(image), 1, pointer(room)) == 0 and library.net_error() == b""


@pytest.mark.parametrize("name", ["RGB", "BGR", "RGBA", "BGRA", "GRAY"])
def test_an_image_of_another_size(graph: IntegerGraph, library: ctypes.CDLL, name: str) -> None:
    """The header's number of a format stands for its bytes; the image is Python's."""
    header = Interface.of(graph, None).header()
    (formats,) = re.findall(r"enum { (SQUEEZEEDGE_RGB.*) };", header)
    number = formats.split(", ").index(f"SQUEEZEEDGE_{name}")
    pixels = np.random.default_rng(2).integers(0, 256, (21, 34, 4)).astype(np.uint8)
    order = {"RGB": [0, 1, 2], "BGR": [2, 1, 0], "RGBA": [0, 1, 2, 3], "BGRA": [2, 1, 0, 3], "GRAY": [0]}[name]
    given = np.ascontiguousarray(pixels[..., order])
    library.net_scratch.restype = ctypes.c_int64
    scratch = np.empty(library.net_scratch(34, 21), np.uint8)
    image = np.empty(graph.input_shape, np.uint8)
    arguments = (34, 21, ctypes.c_int64(34 * len(order)), number, pointer(scratch), pointer(image))
    assert library.net_preprocess(pointer(given), *arguments) == 0 and library.net_error() == b""
    same = Image.fromarray(pixels[..., 0] if name == "GRAY" else pixels[..., :3])
    np.testing.assert_array_equal(image, graph.preprocessing(same))
    assert library.net_preprocess(None, *arguments) < 0 and b"no pixels" in library.net_error()
    assert library.net_scratch(34, 0) < 0 and b"at least one pixel" in library.net_error()


BOTH = """
#include <stdio.h>
#include <stdlib.h>
#include "a/squeezeedge.h"
#include "b/squeezeedge.h"
#ifdef squeezeedge_logits
#error "it could mean either"
#endif
#define ANSWER(name) do { \\
    if (name##_open(2, NULL) != SQUEEZEEDGE_OK) return 3; \\
    size_t bytes = (size_t)name##_input[0] * name##_input[1] * name##_input[2]; \\
    uint8_t *image = malloc(bytes); \\
    float *logits = malloc(name##_classes * sizeof *logits); \\
    if (fread(image, 1, bytes, stdin) != bytes || name##_logits(image, 1, logits) != 0) return 1; \\
    fwrite(logits, sizeof *logits, name##_classes, stdout); \\
    free(image); free(logits); \\
} while (0)
int main(void) { ANSWER(first); ANSWER(second); first_close(); second_close(); return 0; }
"""


@pytest.mark.slow
@pytest.mark.parametrize("machine", [HERE, pytest.param(AARCH64, marks=pytest.mark.tool)], ids=["here", "aarch64"])
@pytest.mark.parametrize("endings", ["so so", "a a", "so a"])
def test_two_networks_in_one_program(machine: Machine, endings: str, compiled_for: CompiledFor, tmp_path: Path) -> None:
    machine.need()
    arguments: list[str | Path] = [f"-I{tmp_path}"]
    expected, pixels = b"", b""
    parts = zip((4, 5), "ab", ("first", "second"), endings.split(), strict=True)
    for seed, place, prefix, ending in parts:
        graph = labelled(seed)  # both are called "net"
        (tmp_path / place).symlink_to(compiled_for(machine, graph, prefix)[0])
        arguments += [tmp_path / place / f"lib{prefix}.{ending}", f"-Wl,-rpath,{tmp_path / place}"]
        image = random_images(graph, 1, 0)
        pixels += image.tobytes()
        expected += graph.logits(run(graph, image)).tobytes()
    program = machine.build(BOTH, tmp_path, [*arguments, "-pthread", "-lm"])
    done = machine.run(program, data=pixels)
    assert done.returncode == 0 and done.stdout == expected


def compiled(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "main.c").write_text(source)
    command = ["cc", "-fsyntax-only", "-Werror", f"-I{folder}", str(folder / "main.c")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_two_networks_of_one_prefix_are_refused(graph: IntegerGraph, tmp_path: Path) -> None:
    for name, network in (("a.h", graph), ("b.h", labelled(4))):
        (tmp_path / name).write_text(Interface.of(network, "net").header())
    done = compiled('#include "a.h"\n#include "a.h"\nint main(void) { return squeezeedge_classes; }', tmp_path)
    assert done.returncode == 0, done.stderr
    done = compiled('#include "a.h"\n#include "b.h"\nint main(void) { return 0; }', tmp_path)
    assert done.returncode and "two networks with the prefix net: compile one with another prefix" in done.stderr


def test_the_header_is_c_plus_plus_too(folder: Path, tmp_path: Path) -> None:
    source = f'#include "{HEADER}"\nint main() {{ return squeezeedge_label(0) == nullptr; }}\n'
    (tmp_path / "main.cpp").write_text(source)
    files = [str(tmp_path / "main.cpp"), str(folder / "libnet.a"), "-pthread", "-lm", "-o", str(tmp_path / "main")]
    subprocess.run(["g++", "-Wall", "-Wextra", "-Werror", f"-I{folder}", *files], check=True)
    assert HERE.run(tmp_path / "main").returncode == 0


def test_the_header_says_what_sums_are(graph: IntegerGraph) -> None:
    text = " ".join(Interface.of(graph, None).header().replace("*", "").split())
    assert "DO NOT COMPARE THEM BETWEEN CLASSES" in text and "logit[c] = (float)sums[c] net_scale()[c]" in text
    assert "threads, 1 to 64, the caller's included" in text


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("squeezenet1_1", "squeezenet1_1"),
        ("my net-2.0", "my_net_2_0"),
        ("18", "network_18"),
        ("réseau", "r_seau"),
        ("_x", "network__x"),
        ("網", "network__"),
        ("m", "m_network"),
        ("squeezeedge", "squeezeedge_network"),
    ],
)
def test_the_prefix_is_the_name_as_an_identifier(graph: IntegerGraph, name: str, prefix: str) -> None:
    assert Interface.of(dataclasses.replace(graph, name=name), None).prefix == prefix
    assert Interface.of(graph, "chosen").prefix == "chosen"


@pytest.mark.parametrize("label", ["a\0b", "\ud800"])
def test_names_that_c_has_no_strings_for(graph: IntegerGraph, label: str) -> None:
    labels = (label, *graph.labels[1:])
    with pytest.raises(UnsupportedError, match="can't be a string of C; rename the class"):
        Interface.of(dataclasses.replace(graph, labels=labels), None)


def test_the_documentation_names_the_whole_interface(graph: IntegerGraph) -> None:
    text = (CHECKOUT / "docs" / "c-interface.md").read_text()
    names = set(re.findall(r"#define (squeezeedge_\w+)", Interface.of(graph, None).header()))
    assert names == set(re.findall(r"\bsqueezeedge_[a-z_]+", text))
