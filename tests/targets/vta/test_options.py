"""What a user chooses, and what it was called before."""

from dataclasses import fields

import pytest

from squeezeedge.targets.vta import TARGET, VtaOptions
from squeezeedge.targets.vta.isa.geometry import DEFAULT_CONFIG


def test_defaults() -> None:
    options = VtaOptions()
    assert (options.instructions, options.config) == ("extended", DEFAULT_CONFIG)
    assert options.clock is None and options.bitstream_file is None
    assert not options.bitstream and not options.tvm_module
    assert all(field.metadata["help"].endswith(".") for field in fields(VtaOptions))


@pytest.mark.parametrize(("old", "new"), [("vta-x", "extended"), ("vta", "published")])
def test_old_names_of_the_instructions(old: str, new: str) -> None:
    with pytest.warns(FutureWarning, match=f"{old}.*{new}"):
        options = VtaOptions(instructions=old)
    assert options == VtaOptions(instructions=new)
    TARGET.check_options(options)
