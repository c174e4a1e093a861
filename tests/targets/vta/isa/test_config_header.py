"""The header that the C++ takes from Python."""

import re
from collections.abc import Callable

import pytest

from squeezeedge.targets.vta.isa.config_header import CONFIG_HEADER, HLS, config_header, hardware_sources
from squeezeedge.targets.vta.isa.encoding import slots
from squeezeedge.targets.vta.isa.geometry import Geometry, config_names, load_config
from squeezeedge.targets.vta.isa.words import INSTRUCTIONS


def test_config_header(golden: Callable[[str, str], None]) -> None:
    golden("vta_config.h", config_header(Geometry()))


@pytest.mark.parametrize("name", config_names())
def test_every_field_of_every_geometry(name: str) -> None:
    geometry = load_config(name).geometry
    defined = dict(re.findall(r"#define (\w+) (.+)", config_header(geometry)))
    assert defined["VTA_BLOCK"] == str(geometry.block) and defined["VTA_BUS_BYTES"] == str(geometry.bus_bytes)
    for instruction in INSTRUCTIONS.values():
        for slot in slots(instruction, geometry)[4:]:
            place = defined[f"VTA_{instruction.mnemonic}_{slot.name}".upper()]
            assert place == f"{slot.word}, {slot.low}, {slot.width}"


def test_the_sources_are_all_that_they_include() -> None:
    sources = hardware_sources()
    assert [source.name for source in sources if source.suffix == ".cpp"] == ["vta.cpp"]
    included = {name for source in sources for name in re.findall(r'#include "([^"]+)"', source.read_text())}
    assert included <= {source.name for source in sources} | {CONFIG_HEADER}
    assert all(source.parent == HLS for source in sources)
