"""What device.py says of the driver's functions is what NVIDIA's header says: names, parameters, numbers."""

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from squeezeedge.targets.cuda import device as device_side
from tests.targets.cuda.emulation import FAKE

NUMBERS = {
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR": device_side.COMPUTE_CAPABILITY_MAJOR,
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR": device_side.COMPUTE_CAPABILITY_MINOR,
    "CU_DEVICE_ATTRIBUTE_INTEGRATED": device_side.INTEGRATED,
    "CU_STREAM_CAPTURE_MODE_THREAD_LOCAL": device_side.CAPTURE_MODE_THREAD_LOCAL,
    "CU_STREAM_NON_BLOCKING": 1,
    "CUDA_ERROR_NO_DEVICE": device_side.NO_DEVICE,
    "CUDA_ERROR_OUT_OF_MEMORY": device_side.OUT_OF_MEMORY,
    "CUDA_ERROR_NO_BINARY_FOR_GPU": device_side.TOO_NEW[0],
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": device_side.TOO_NEW[1],
}


@pytest.fixture
def header() -> Path:
    """NVIDIA's cuda.h of the CUDA toolkit."""
    folders = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")), *Path("/usr/local").glob("cuda-*")]
    found = [folder / "include" / "cuda.h" for folder in folders if (folder / "include" / "cuda.h").is_file()]
    if not found or shutil.which("cc") is None:
        pytest.skip("needs cuda.h of the CUDA toolkit and a C compiler")
    return found[0]


@pytest.mark.tool
def test_functions_and_numbers(header: Path, tmp_path: Path) -> None:
    text = header.read_text()
    lines = ["#define __CUDA_API_VERSION_INTERNAL", "#include <cuda.h>"]
    for name, types in device_side.FUNCTIONS.items():
        prototypes = re.findall(rf"CUresult CUDAAPI {name}\(([^)]*)\);", text)
        if not prototypes:  # declared under the name that a macro replaces
            (other,) = re.findall(rf"#define (\w+)\s+{name}\n", text)
            prototypes = re.findall(rf"CUresult CUDAAPI {other}\(([^)]*)\);", text)
        parameters = [] if prototypes[0] == "void" else prototypes[0].split(",")
        assert isinstance(types, list) and len(parameters) == len(types), name
        for parameter, kind in zip(parameters, types, strict=True):
            lines.append(f'_Static_assert(sizeof(struct {{ {parameter}; }}) == {ctypes.sizeof(kind)}, "{name}");')
    lines += [f'_Static_assert({name} == {number}, "{name}");' for name, number in NUMBERS.items()]
    (tmp_path / "check.c").write_text("\n".join([*lines, ""]))
    command = ["cc", "-fsyntax-only", f"-I{header.parent}", "check.c"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_fake_has_no_other_functions() -> None:
    names = set(re.findall(r"^int (cu[A-Z]\w*)\(", FAKE.read_text(), re.MULTILINE))
    assert names == set(device_side.FUNCTIONS)
