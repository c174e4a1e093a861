"""What the target needs of a machine."""

from __future__ import annotations

from pathlib import Path

from squeezeedge.targets.ascend import TARGET


def test_requirements(atc: Path) -> None:
    found = {requirement.name: requirement for requirement in TARGET.requirements()}
    assert found["atc (model.om)"].found == str(atc)
    assert found["ais_bench or acl"].found is None and "set_env.sh" in found["ais_bench or acl"].fix
