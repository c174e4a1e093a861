"""FAKE pyACL: as much of the module ``acl`` as a synchronous run needs, strict about order, sizes and leaks.

Calls and return values are those of CANN's pyACL reference: functions return an error code, or a value and a code.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.targets.ascend.fake_device import FakeModel

OK, INVALID = 0, 100000
HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE = 1, 2, 3

_state: dict[str, bool] = {"initialized": False, "device": False}
_numbers = itertools.count(0x1000)
_memory: dict[int, bytearray] = {}
_host: dict[int, bytes] = {}
_buffers: dict[int, tuple[int, int]] = {}
_datasets: dict[int, list[int]] = {}
_models: dict[int, FakeModel] = {}
_descriptions: dict[int, int] = {}


def init() -> int:
    code = 100002 if _state["initialized"] else OK
    _state["initialized"] = True
    return code


def finalize() -> int:
    leaks = [name for name, table in (("memory", _memory), ("buffers", _buffers), ("datasets", _datasets)) if table]
    assert not leaks and not _models and not _descriptions and not _state["device"], f"FAKE: not given back: {leaks}"
    _state["initialized"] = False
    return OK


def create_data_buffer(pointer: int, size: int) -> int:
    assert len(_memory[pointer]) == size
    number = next(_numbers)
    _buffers[number] = (pointer, size)
    return number


def destroy_data_buffer(buffer: int) -> int:
    del _buffers[buffer]
    return OK


def _set_device(device: int) -> int:
    if not _state["initialized"] or device != 0 or os.environ.get("FAKE_FAULT") == "no-device":
        return 507033
    _state["device"] = True
    return OK


def _reset_device(device: int) -> int:
    _state["device"] = False
    return OK


def _malloc(size: int, policy: int) -> tuple[int, int]:
    assert _state["device"] and policy == 0
    return _allocate(size), OK


def _allocate(size: int) -> int:
    number = next(_numbers)
    _memory[number] = bytearray(size)
    return number


def _malloc_host(size: int) -> tuple[int, int]:
    return (_allocate(size), OK) if _run_mode() == 1 else (0, INVALID)


def _run_mode() -> int:
    return int(os.environ.get("FAKE_RUN_MODE", "1"))


def _free(pointer: int) -> int:
    del _memory[pointer]
    return OK


def _memcpy(target: int, room: int, source: int, size: int, kind: int) -> int:
    expected = HOST_TO_DEVICE if source in _host else DEVICE_TO_HOST
    if size > room or kind != (DEVICE_TO_DEVICE if _run_mode() == 0 else expected):
        return INVALID
    data = _host.pop(source) if source in _host else bytes(_memory[source])
    _memory[target][:size] = data[:size]
    return OK


def _bytes_to_ptr(data: bytes) -> int:
    number = next(_numbers)
    _host[number] = data
    return number


def _load(path: str) -> tuple[int, int]:
    from tests.targets.ascend.fake_device import FakeModel

    try:
        model = FakeModel(Path(path))
    except RuntimeError:
        return 0, 145000
    number = next(_numbers)
    _models[number] = model
    return number, OK


def _unload(model: int) -> int:
    del _models[model]
    return OK


def _create_desc() -> int:
    number = next(_numbers)
    _descriptions[number] = 0
    return number


def _get_desc(description: int, model: int) -> int:
    _descriptions[description] = model
    return OK


def _destroy_desc(description: int) -> int:
    del _descriptions[description]
    return OK


def _described(description: int) -> FakeModel:
    return _models[_descriptions[description]]


def _create_dataset() -> int:
    number = next(_numbers)
    _datasets[number] = []
    return number


def _add_dataset_buffer(dataset: int, buffer: int) -> tuple[int, int]:
    _datasets[dataset].append(buffer)
    return dataset, OK


def _destroy_dataset(dataset: int) -> int:
    del _datasets[dataset]
    return OK


def _execute(model: int, inputs: int, outputs: int) -> int:
    if os.environ.get("FAKE_FAULT") == "hang-up":
        return 507011
    source, _ = _buffers[_datasets[inputs][0]]
    made = _models[model].run(bytes(_memory[source]))
    for buffer, values in zip(_datasets[outputs], made, strict=True):
        target, size = _buffers[buffer]
        assert values.nbytes == size
        _memory[target][:] = values.tobytes()
    return OK


rt = SimpleNamespace(
    set_device=_set_device,
    reset_device=_reset_device,
    malloc=_malloc,
    free=_free,
    malloc_host=_malloc_host,
    get_run_mode=lambda: (_run_mode(), OK),
    free_host=_free,
    memcpy=_memcpy,
)
mdl = SimpleNamespace(
    load_from_file=_load,
    unload=_unload,
    create_desc=_create_desc,
    get_desc=_get_desc,
    destroy_desc=_destroy_desc,
    get_input_size_by_index=lambda description, index: _described(description).input_size,
    get_num_outputs=lambda description: len(_described(description).output_sizes),
    get_output_size_by_index=lambda description, index: _described(description).output_sizes[index],
    get_output_data_type=lambda description, index: int(os.environ.get("FAKE_TYPE", "0")),
    create_dataset=_create_dataset,
    add_dataset_buffer=_add_dataset_buffer,
    get_dataset_buffer=lambda dataset, index: _datasets[dataset][index],
    destroy_dataset=_destroy_dataset,
    execute=_execute,
)
util = SimpleNamespace(bytes_to_ptr=_bytes_to_ptr, ptr_to_bytes=lambda pointer, size: bytes(_memory[pointer][:size]))
