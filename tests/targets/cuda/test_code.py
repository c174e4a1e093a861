"""Which code of an artifact a GPU executes, and what is said where there is none."""

from __future__ import annotations

import pytest

from squeezeedge.targets.cuda.device import OLDEST, Unavailable, choose_code
from squeezeedge.targets.cuda.options import ARCHITECTURES

ALL = tuple(ARCHITECTURES)
CUDA_13 = ALL[1:]
BOTH = ("sm_72", "sm_80")

CASES = [
    # capability, integrated, cubins, PTX -> what is loaded; an integrated GPU is one of Tegra's
    ((6, 1), False, ALL, BOTH, None),
    ((6, 2), True, ALL, BOTH, None),
    ((7, 0), False, ALL, BOTH, None),
    ((7, 2), True, ALL, BOTH, "sm_72"),
    ((7, 2), True, CUDA_13, ("sm_75", "sm_80"), None),
    ((7, 5), False, ALL, BOTH, "sm_75"),
    ((7, 5), False, ("sm_72", "sm_80"), BOTH, "PTX of sm_72"),
    ((8, 0), False, ALL, BOTH, "sm_80"),
    ((8, 6), False, ALL, BOTH, "sm_86"),
    ((8, 6), False, ("sm_80", "sm_90"), ("sm_80",), "sm_80"),
    ((8, 6), False, ("sm_90",), ("sm_90",), None),
    ((8, 7), True, ALL, BOTH, "sm_87"),
    ((8, 7), True, ("sm_75", "sm_80", "sm_86"), ("sm_75", "sm_80"), "PTX of sm_80"),
    ((8, 7), True, ("sm_86",), ("sm_86",), "PTX of sm_86"),
    ((8, 7), True, ("sm_89",), ("sm_89",), None),
    ((8, 9), False, ALL, BOTH, "sm_89"),
    ((8, 9), False, ("sm_80", "sm_86", "sm_87"), ("sm_80",), "sm_86"),
    ((8, 9), False, ("sm_87",), ("sm_87",), "PTX of sm_87"),
    ((9, 0), False, ALL, BOTH, "sm_90"),
    ((10, 0), False, ALL, BOTH, "sm_100"),
    ((10, 1), True, ALL, BOTH, "PTX of sm_80"),
    ((10, 3), False, ALL, BOTH, "sm_100"),
    ((11, 0), True, ALL, BOTH, "PTX of sm_80"),
    ((12, 0), False, ALL, BOTH, "sm_120"),
    ((12, 1), False, ALL, BOTH, "sm_120"),
    ((12, 1), True, ALL, BOTH, "PTX of sm_80"),
    ((13, 0), False, ALL, BOTH, "PTX of sm_80"),
    ((6, 1), False, ALL, BOTH, None),
    ((5, 3), True, ALL, BOTH, None),
    ((7, 0), False, ALL, BOTH, None),
]


@pytest.mark.parametrize(("capability", "integrated", "cubins", "ptx", "code"), CASES)
def test_what_a_gpu_executes(
    capability: tuple[int, int], integrated: bool, cubins: tuple[str, ...], ptx: tuple[str, ...], code: str | None
) -> None:
    files = [{arch: f"kernels.{arch}.{ending}" for arch in has} for has, ending in ((cubins, "cubin"), (ptx, "ptx"))]
    if code is None:
        own = "sm_{}{}".format(*capability)
        if capability < OLDEST:
            with pytest.raises(Unavailable, match=rf"^this GPU is {own}, and the kernels need sm_72 or newer: no art"):
                choose_code(files[0], files[1], capability, integrated)
            return
        text = f"this GPU is {own}, {'an integrated one, ' if integrated else ''}the artifact was compiled for "
        with pytest.raises(Unavailable, match=f"^{text}{', '.join(cubins)}: compile it again with --arch {own}"):
            choose_code(files[0], files[1], capability, integrated)
        return
    arch = code.split()[-1]
    file = f"kernels.{arch}.{'ptx' if 'PTX' in code else 'cubin'}"
    assert choose_code(files[0], files[1], capability, integrated) == (file, code)


def test_the_oldest_is_the_oldest_that_is_compiled_for() -> None:
    assert "sm_{}{}".format(*OLDEST) == ALL[0]
