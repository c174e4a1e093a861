"""Damaged call plans: every one is a ValueError that names the file, or a plan whose values are in their ranges."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from squeezeedge.errors import CorruptFileError, SqueezeEdgeError
from squeezeedge.targets.cuda import TARGET
from squeezeedge.targets.cuda.device import MOST_ARGUMENTS, Unavailable, choose_code, read_plan
from squeezeedge.targets.device.run import Artifact
from tests.targets.devices import seal
from tests.targets.mutations import flipped, mutations


def read(artifact: Path, data: bytes) -> dict[str, Any] | None:
    """What the reader makes of a plan with the right checksum; ``None``: it is refused as it must be."""
    (artifact / "plan.json").write_bytes(data)
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest["files"]["plan.json"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (artifact / "manifest.json").write_text(json.dumps(manifest))
    try:
        plan = read_plan(Artifact(artifact))
    except ValueError as error:
        assert str(error).startswith(f"{artifact}/plan.json: damaged (") and "copy the artifact again" in str(error)
        return None
    check(plan)
    return plan


def check(plan: dict[str, Any]) -> None:
    """What whoever executes a plan relies on."""
    sizes = {
        "input": 13 * 11 * 3,
        "output": 21 * 4,
        "workspace": plan["workspace_bytes"],
        "constants": plan["constant_bytes"],
    }
    assert plan["input"] == [13, 11, 3] and plan["classes"] == 21 and 1 <= plan["most_images"] <= 65535
    for launch in plan["launches"]:
        assert launch["kernel"].isidentifier() and launch["blocks"] > 0 and 1 <= launch["threads"] <= 1024
        assert len(launch["arguments"]) <= MOST_ARGUMENTS
        assert all(0 <= offset < sizes[place] < 2**31 for place, offset in launch["arguments"])
    for capability in ((7, 2), (8, 7), (9, 0)):
        try:
            file, _ = choose_code(plan["cubins"], plan["ptx"], capability, integrated=True)
        except Unavailable:
            continue
        assert file in {f"kernels.sm_{arch}.{ending}" for arch in (75, 80) for ending in ("cubin", "ptx")}


@pytest.mark.slow
def test_mutations(artifact: Path) -> None:
    data = (artifact / "plan.json").read_bytes()
    assert read(artifact, data) is not None
    taken = [read(artifact, json.dumps(plan).encode()) for plan in mutations(json.loads(data), 200, 0)]
    assert 0 < sum(plan is None for plan in taken) < 200
    for damaged in flipped(data, 100, 1):
        read(artifact, damaged)


CHANGES: list[Callable[[dict[str, Any]], object]] = [
    lambda plan: plan["launches"].__setitem__(0, None),
    lambda plan: plan["launches"][0].update(arguments=None),
    lambda plan: plan["launches"][0].update(arguments=[["input"]]),
    lambda plan: plan["launches"][0].update(arguments=[[[], 0]]),
    lambda plan: plan["launches"][0].update(arguments=[["input", 0]] * 65),
    lambda plan: plan["launches"][0].update(kernel="a\0b"),
    lambda plan: plan["launches"][0].update(blocks=0),
    lambda plan: plan["launches"][0].update(threads=2048),
    lambda plan: plan.update(workspace_bytes=2**40),
    lambda plan: plan.update(most_images=True),
    lambda plan: plan.update(input=[13.0, 11, 3]),
    lambda plan: plan.update(input=[13, 11]),
    lambda plan: plan.update(classes=22),
    lambda plan: plan.update(cubins=[]),
    lambda plan: plan["cubins"].update(sm_75="/dev/zero"),
    lambda plan: plan["cubins"].update(sm_75="../kernels.sm_75.cubin"),
    lambda plan: plan["cubins"].update(sm_75="kernels.sm_80.cubin"),
    lambda plan: plan["cubins"].update(sm_86="kernels.sm_86.cubin"),
    lambda plan: plan["ptx"].update(sm_x="kernels.sm_x.ptx"),
    lambda plan: plan.pop("ptx"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_refused(artifact: Path, change: Callable[[dict[str, Any]], object]) -> None:
    plan = json.loads((artifact / "plan.json").read_text())
    change(plan)
    assert read(artifact, json.dumps(plan).encode()) is None
    with pytest.raises(CorruptFileError, match=r"plan\.json: damaged"):
        TARGET.listing(artifact)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"input": 1' + "0" * 5000 + "}", "nul", "\ufeff{}"])
def test_what_is_no_plan(artifact: Path, text: str) -> None:
    assert read(artifact, text.encode()) is None


def test_old_artifacts_are_refused(artifact: Path) -> None:
    """They had one file of PTX."""
    plan = json.loads((artifact / "plan.json").read_text())
    plan["ptx"] = {"arch": "sm_80", "file": "kernels.ptx"}
    with pytest.raises(SqueezeEdgeError, match="compile the model again"):
        (artifact / "plan.json").write_text(json.dumps(plan))
        seal(artifact)
        TARGET.listing(artifact)
