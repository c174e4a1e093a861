"""Which architectures are compiled for."""

import pytest

from squeezeedge.errors import UsageError
from squeezeedge.targets.cuda import TARGET, CudaOptions
from squeezeedge.targets.cuda.isa import INSTRUCTION_SETS
from squeezeedge.targets.cuda.options import ARCHITECTURES, asked_architectures


def test_choices() -> None:
    every = ("sm_72", "sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_120")
    assert asked_architectures(CudaOptions()) == every
    assert asked_architectures(CudaOptions(arch="sm_86")) == ("sm_86",)
    assert set(ARCHITECTURES.values()) == INSTRUCTION_SETS.keys()


def test_an_unknown_architecture_is_reported_before_anything_is_written() -> None:
    with pytest.raises(UsageError, match=r"`arch` sm_70: not known; there are: sm_72, .*, all"):
        TARGET.check_options(CudaOptions(arch="sm_70"))
