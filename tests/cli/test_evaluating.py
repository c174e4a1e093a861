"""What eval and report make ready: which artifacts and devices go together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from squeezeedge.artifact import Artifact
from squeezeedge.cli.evaluating import prepared
from squeezeedge.cli.model_options import ModelOptions
from squeezeedge.cli.quantizing import DataOptions, EffortOptions
from squeezeedge.errors import UsageError


def ready(models: Sequence[object], devices: Sequence[str] = (), **options: Any) -> Any:  # noqa: ANN401
    settings: dict[str, Any] = {
        "emulate": False,
        "board": None,
        "timeout": None,
        "threads": None,
        "source": ModelOptions(),
    }
    settings |= {"given": DataOptions("digits", limit=5), "quantizing": EffortOptions(), "target_options": {}}
    return prepared([str(model) for model in models], devices, **settings | options)


def test_an_artifact_runs_on_its_hardware(digits_artifact: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    with ready([digits_artifact.path]) as found:
        assert found.devices == ["cpu"] and [one.path for one in found.artifacts] == [digits_artifact.path]
        assert len(found.images) == 5 and found.reference is not None
        assert found.model.integer is not None
    assert "evaluating squeezenet1_1_digits on 5 images of digits" in capsys.readouterr().err


def test_a_device_that_is_named_twice_runs_once(digits_artifact: Artifact) -> None:
    with ready([digits_artifact.path], ["cpu", "cpu"]) as found:
        assert found.devices == ["cpu"]


def test_the_check_comes_before_any_work(digits_artifact: Artifact) -> None:
    def check(images: object, reference: object) -> None:
        raise UsageError("not these")

    with pytest.raises(UsageError, match="not these"), ready([digits_artifact.path], check=check):
        raise AssertionError


def test_what_does_not_go_together(digits_artifact: Artifact, tmp_path: Path) -> None:
    own = digits_artifact.path
    for models, devices, options, text in (
        ([own, "squeezenet1_1"], [], {}, "squeezenet1_1: is no artifact folder; give several artifacts, or one MODEL"),
        ([own, own], [], {}, f"{own}: nothing runs it: {own} is for cpu, too"),
        ([own], ["vta-sim"], {}, "compiled for cpu, which `device` vta-sim does not run"),
        ([own], [], {"timeout": 3.0}, "--timeout is for a board"),
        ([own], ["cpu"], {"emulate": True}, "there is no emulation of cpu"),
        ([own], [], {"source": ModelOptions(size=96)}, "the input size of an artifact is fixed"),
        ([own], [], {"target_options": {"isa": "avx2"}}, "is compiled already"),
        ([tmp_path], [], {}, "not an artifact"),
    ):
        with pytest.raises(UsageError) as failure, ready(models, devices, **options):
            raise AssertionError
        assert text in str(failure.value)
