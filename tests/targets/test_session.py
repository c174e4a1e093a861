"""Sessions on this machine; the device is a few lines of numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezeedge.errors import SqueezeEdgeError, UnavailableError, UsageError
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.session import SETTINGS, check_files, open_session, takes
from tests.targets.device import fake_device
from tests.targets.device.artifact import FakeArtifact
from tests.targets.device.target import TARGET
from tests.targets.devices import answers


@pytest.fixture
def made(tmp_path: Path) -> FakeArtifact:
    return FakeArtifact(tmp_path / "artifact")


def test_here(made: FakeArtifact) -> None:
    with open_session(made.folder, TARGET, "fake") as session:
        assert (session.device, session.kind) == ("fake", "hardware")
        first, second = session.run(made.images[:1]), session.run(made.images)
        empty = session.run(made.images[:0])
    np.testing.assert_array_equal(second.sums, made.sums)
    assert first.latency_ms.tolist() == [1.0] and second.latency_ms.tolist() == [1.0, 2.0, 3.0]
    assert second.timings["fake_ms"].tolist() == [0.5, 1.0, 1.5]
    assert first.metrics == {"gain": 1, "fake": True, "fake_ms": 0.5}
    assert second.metrics["fake_ms"] == 0.75, "the median of all four images"
    assert empty.sums.shape == (0, 4)


def test_tensors_here(made: FakeArtifact, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_session(made.folder, TARGET, "fake") as session:
        assert [name for name, _ in session.trace(made.images[0])] == ["blocks/1", "head"]
        assert session.unseen() == {"blocks/2": "it is a FAKE"} and session.tolerance == 0
        monkeypatch.setattr(fake_device, "FAULT", "no-trace")
        with pytest.raises(SqueezeEdgeError, match=rf"^{made.folder}: the FAKE device shows nothing$"):
            list(session.trace(made.images[0]))
        monkeypatch.setattr(session, "_network", object())
        for ask in (session.unseen, lambda: list(session.trace(made.images[0]))):
            with pytest.raises(UsageError, match="fake: the device shows no tensors but the class sums"):
                ask()
        monkeypatch.undo()
    with pytest.raises(UsageError, match="the device is closed"):
        session.unseen()


def test_times_here(made: FakeArtifact, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_session(made.folder, TARGET, "fake") as session:
        with pytest.raises(UsageError, match="fake: the device tells no times of its kernels"):
            session.kernel_times(made.images[0], 2)
        asked: list[object] = []
        times = lambda self, *given: asked.append(given)  # noqa: E731
        monkeypatch.setattr(fake_device.Network, "kernel_times", times, raising=False)
        session.kernel_times(made.images[0], 2)
        assert len(asked) == 1
    with pytest.raises(UsageError, match="the device is closed"):
        session.kernel_times(made.images[0], 2)


def test_failures_here(made: FakeArtifact, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="target fake has no device 'real'; it has: fake, fake-emulation"):
        with open_session(made.folder, TARGET, "real"):
            pass
    monkeypatch.setattr(fake_device, "FAULT", "unavailable")
    with pytest.raises(UnavailableError, match=r"plug it in; or use `board` user@host, or `device` fake-emulation$"):
        answers(TARGET, made.folder, made.images, "fake")
    monkeypatch.setattr(fake_device, "FAULT", "broken")
    with pytest.raises(SqueezeEdgeError, match=rf"^{made.folder}: the FAKE device is on fire$"):
        answers(TARGET, made.folder, made.images, "fake")
    (made.folder / "weights.bin").write_bytes(b"other")
    with pytest.raises(SqueezeEdgeError, match=rf"^{made.folder}/weights\.bin: differs from its checksum"):
        answers(TARGET, made.folder, made.images, "fake")
    made.write_manifest({})
    with pytest.raises(SqueezeEdgeError, match=r"manifest\.json: damaged"):
        answers(TARGET, made.folder, made.images, "fake")


def test_what_fails_first_is_told(made: FakeArtifact, monkeypatch: pytest.MonkeyPatch) -> None:
    def close(self: object) -> None:
        raise RuntimeError("does not close")

    monkeypatch.setattr(fake_device.Network, "close", close)
    with pytest.raises(SqueezeEdgeError, match="does not close"):
        answers(TARGET, made.folder, made.images, "fake")
    with pytest.raises(ZeroDivisionError), open_session(made.folder, TARGET, "fake"):
        print(1 / 0)


def test_a_file_that_is_not_always_made(made: FakeArtifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is missed before a device is opened or a board is reached; an emulation does not need it."""
    (made.folder / "weights.bin").unlink()
    made.seal()
    monkeypatch.setattr(fake_device, "FAULT", "unavailable")
    monkeypatch.setenv("PATH", "")
    for board in (None, "user@board"):
        with pytest.raises(UnavailableError, match=rf"^{made.folder}/weights\.bin: missing, the FAKE device needs it$"):
            answers(TARGET, made.folder, made.images, "fake", board)
    check_files(made.folder, TARGET, "fake-emulation")


def test_threads_and_batches_are_an_opener_s_parameters(made: FakeArtifact, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SETTINGS == ("threads", "batch")
    for setting in SETTINGS:
        chosen: dict[str, Any] = {setting: 2}
        assert not takes(TARGET, "fake", setting)
        with pytest.raises(UsageError, match=f"`{setting}`: device fake has no choice of it; leave it out"):
            with open_session(made.folder, TARGET, "fake", **chosen):
                pass
    given: dict[str, int] = {}

    class Network(fake_device.Network):
        def __init__(self, artifact: Artifact, threads: int = 1, batch: int = 1) -> None:
            super().__init__(artifact)
            given.update(threads=threads, batch=batch)

    monkeypatch.setattr(type(TARGET), "network", lambda self, device: Network)
    with open_session(made.folder, TARGET, "fake", threads=3):
        assert given == {"threads": 3, "batch": 1}
    with pytest.raises(UsageError, match="`batch`: another machine gets one image after the other"):
        with open_session(made.folder, TARGET, "fake", "user@host", batch=2):
            pass
