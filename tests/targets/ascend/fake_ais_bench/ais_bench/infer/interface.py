"""FAKE ``ais_bench.infer.interface``: the session of the API guide, with the emulation in place of a device."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.targets.ascend.fake_device import FakeModel


class InferSession:
    """Loads a model that the fake atc made."""

    def __init__(
        self, device_id: int, model_path: str, acl_json_path: str | None = None, debug: bool = False, loop: int = 1
    ) -> None:
        if device_id != 0 or os.environ.get("FAKE_FAULT") == "no-device":
            raise RuntimeError(f"FAKE: aclrtSetDevice {device_id} failed, error code 507033")
        from tests.targets.ascend.fake_device import FakeModel

        self._model: FakeModel | None = FakeModel(Path(model_path))

    def infer(self, feeds: list[Any], mode: str = "static", custom_sizes: int = 100000) -> list[Any]:
        """Static models only, as :class:`FakeModel`."""
        if self._model is None or mode != "static" or len(feeds) != 1:
            raise RuntimeError("FAKE: freed session, another mode or several inputs")
        return list(self._model.run(feeds[0].tobytes()))

    def free_resource(self) -> None:
        """Once."""
        assert self._model is not None, "FAKE: freed twice"
        self._model = None
