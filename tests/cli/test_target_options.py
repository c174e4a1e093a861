"""The fields of targets' dataclasses as options of a command."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
import typer
from typer.testing import CliRunner

from squeezeedge.cli import target_options
from squeezeedge.cli.target_options import add_command, options_of
from squeezeedge.errors import UsageError
from squeezeedge.targets.protocol import Target


@dataclass(frozen=True)
class Options:
    """FAKE options."""

    speed: str = field(default="low", metadata={"help": "How fast.", "names": ("--speed", "--pace")})
    chip_name: str = field(default="", metadata={"help": "Which.", "emulated": "none"})
    wide: bool = field(default=False, metadata={"help": "Whether."})


@dataclass(frozen=True)
class Others:
    """FAKE options of another target."""

    level: int | None = field(default=None, metadata={"help": "How much."})


TARGETS = {
    name: cast(Target, SimpleNamespace(name=name, options=options))
    for name, options in (("first", Options), ("second", Others))
}


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401
    monkeypatch.setattr(target_options, "all_targets", lambda: TARGETS)
    app = typer.Typer()

    @app.callback()
    def _root() -> None:
        pass

    def command(json: bool = False, **options: object) -> None:
        """FAKE command."""
        print(json, {name: value for name, value in options.items() if value is not None})

    add_command(app, "run", command)
    return lambda *arguments: CliRunner().invoke(app, ["run", *arguments])


def test_every_name_of_an_option_is_accepted(invoke: Any) -> None:  # noqa: ANN401
    for name in ("--speed", "--pace"):
        assert invoke(name, "high").stdout == "False {'speed': 'high'}\n"
    given = invoke("--chip-name", "x", "--wide", "--level", "3", "--json").stdout
    assert given == "True {'chip_name': 'x', 'wide': True, 'level': 3}\n"
    text = invoke("--help").stdout
    assert "Options of --target first" in text and "Default: low." in text and "--pace" in text
    assert invoke("--no-wide").exit_code == 2


def test_options_of_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_options, "all_targets", lambda: TARGETS)
    first, second = TARGETS.values()
    values = {"speed": "high", "chip_name": None, "wide": None, "level": None}
    assert options_of(first, values, [first]) == {"speed": "high"}
    assert options_of(first, values, [first], "emulation") == {"speed": "high", "chip_name": "none"}
    assert options_of(second, values | {"level": 2}, [first, second]) == {"level": 2}
    with pytest.raises(UsageError, match="--speed is not an option of target second"):
        options_of(second, values, [second])
    with pytest.raises(UsageError, match="--chip-name is not an option of target second"):
        options_of(second, {"chip_name": "x"}, [second])
