"""PyTorch files: both containers, wrappers, and pickles that want more than tensors."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import io
import os
import pickle
import resource
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from squeezeedge.errors import CorruptFileError
from squeezeedge.networks.checkpoints import Checkpoint, read_checkpoint

STATE = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.tensor([0.5, -1.0, 2.0])}


class Option(enum.Enum):
    """Of a training script's own."""

    ONE = 1


class Options(dict[str, int]):
    """A mapping of a training script's own, with attributes."""

    def __init__(self) -> None:
        super().__init__(a=1)
        self.b = 2


BESIDE = {
    "epoch": np.int64(3),
    "best": np.float64(0.5),
    "args": argparse.Namespace(lr=0.1, out=Path("run"), option=Option.ONE),
    "options": Options(),
    "history": collections.defaultdict(list, loss=[1.0, 2.0]),
    "when": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "size": torch.Size([1, 2]),
    "type": torch.float16,
    "device": torch.device("cpu"),
    "random": (np.random.RandomState(0).get_state(), torch.get_rng_state()),
    "classes": {"a", "b"},
    "optimizer": {"state": {0: {"exp_avg": torch.ones(3, 4)}}, "param_groups": [{"params": [0]}]},
}


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:  # noqa: ANN401
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, Any]:
        return self.call


def saved(path: Path, value: object, zipped: bool = True) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def with_pickle(path: Path, content: bytes) -> Path:
    """A file of ``torch.save`` whose pickle is another one."""
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(name, content if name.endswith("data.pkl") else source.read(name))
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("ending", [".pth", ".pt", ".PTH", ".bin", ".pth.tar", ".PT.Tar", ".ckpt"])
def test_state_dict(tmp_path: Path, zipped: bool, ending: str) -> None:
    checkpoint = read_checkpoint(saved(tmp_path / f"a{ending}", STATE, zipped))
    assert list(checkpoint.state) == list(STATE)
    assert all(torch.equal(checkpoint.state[name], STATE[name]) for name in STATE)
    assert checkpoint.metadata == {}


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_wrapped_by_a_training_script_and_data_parallel(tmp_path: Path, wrapper: str) -> None:
    content = {wrapper: {f"module.{name}": tensor for name, tensor in STATE.items()}, "epoch": 3, "best": 0.5}
    assert list(read_checkpoint(saved(tmp_path / "a.pth", content)).state) == list(STATE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_become_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.nn.Parameter(torch.tensor([1.5, -2.0]).to(dtype))
    state = read_checkpoint(saved(tmp_path / "a.pth", {"a": tensor})).state
    assert state["a"].dtype == torch.float32
    assert not state["a"].requires_grad
    assert state["a"].tolist() == [1.5, -2.0]


def test_file_without_checksums(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = saved(tmp_path / "a.pth", STATE)
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_checkpoint(path).state["a.weight"], STATE["a.weight"])


@pytest.mark.parametrize("order", [b"big", b"", b"little\n", b"x" * 1000])
def test_another_byte_order(tmp_path: Path, order: bytes) -> None:
    """PyTorch's own way with it on tensors without memory is a crash."""
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(name, order if name.endswith("/byteorder") else source.read(name))
    with pytest.raises(CorruptFileError, match=r"a\.pth: its byte order is not little-endian; save it again on"):
        read_checkpoint(path)


def test_another_byte_order_without_an_archive(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(STATE, buffer, _use_new_zipfile_serialization=False)
    little, big = b"\x88", b"\x89"  # pickle's NEWTRUE and NEWFALSE
    before, mark, after = buffer.getvalue().partition(b"little_endian")
    assert torch.equal(_written(tmp_path / "a.pt", before + mark + after).state["a.bias"], STATE["a.bias"])
    with pytest.raises(CorruptFileError, match=r"a\.pt: its byte order is not little-endian"):
        _written(tmp_path / "a.pt", before + mark + after.replace(little, big, 1))


def _written(path: Path, content: bytes) -> Checkpoint:
    path.write_bytes(content)
    return read_checkpoint(path)


def test_a_storage_of_another_size_than_its_record(tmp_path: Path) -> None:
    """Nothing beyond the record is read."""
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(4)}, buffer)
    with zipfile.ZipFile(buffer) as file:
        content = file.read("archive/data.pkl").replace(b"K\x04", b"K\x6c")
    with pytest.raises(CorruptFileError, match=r"record size \(48 bytes\) does not match expected size \(432 bytes"):
        read_checkpoint(with_pickle(tmp_path / "a.pth", content))


def test_damaged_weights_are_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", STATE)
    content = bytearray(path.read_bytes())
    content[content.index(STATE["a.bias"].numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"a\.pth: not a PyTorch state dict.*Bad CRC-32 for file .a/data/1"):
        read_checkpoint(path)


def test_no_code_runs(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = with_pickle(tmp_path / "a.pth", pickle.dumps({"a": Call(Path.touch, mark)}, protocol=2))
    with pytest.raises(CorruptFileError, match=r"holds .*nothing of it was loaded.*model\.state_dict\(\)"):
        read_checkpoint(path)
    assert not mark.exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol(tmp_path: Path, protocol: int, zipped: bool) -> None:
    """With what training scripts save beside the tensors, and numpy's arrays in place of them."""
    state: dict[str, Any] = {
        **STATE,
        "b": STATE["a.weight"].T,
        "c": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    }
    content = {"model": state, **BESIDE}
    path = tmp_path / "a.pth"
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(path).state
    if protocol == 5:  # numpy's arrays are then out of reach: they would be made by other functions
        state.pop("c")
    assert found.keys() == state.keys()
    assert all(found[name].tolist() == value.tolist() for name, value in state.items())


def test_a_call_that_can_do_harm_is_refused_beside_sound_tensors(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for call in (Call(os.system, f"touch {mark}"), Call(exec, f"open({str(mark)!r}, 'w')"), Call(subprocess.run, "x")):
        path = saved(tmp_path / "a.pth", {**STATE, "epoch": call})
        with pytest.raises(CorruptFileError, match=r"it holds '\w+ \w+', and nothing of it was loaded; save only"):
            read_checkpoint(path)
    assert not mark.exists()


def test_a_call_that_is_not_known_is_not_made(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = saved(tmp_path / "a.pth", {"state_dict": STATE, "hook": Call(Path.touch, mark), "module": torch.nn.ReLU()})
    assert read_checkpoint(path).state.keys() == STATE.keys()
    assert not mark.exists()


def test_deepspeed(tmp_path: Path) -> None:
    """Whole without ZeRO's third stage; a part of what it has divided is refused."""
    whole: dict[str, Any] = {"module": STATE, "param_shapes": [{}], "ds_config": {}, "optimizer": None}
    path = saved(tmp_path / "mp_rank_00_model_states.pt", whole)
    assert read_checkpoint(path).state.keys() == STATE.keys()
    empty = {"module": {name: torch.empty(0) for name in STATE}, "param_shapes": [STATE]}
    optimizer = {"optimizer_state_dict": {"zero_stage": 2, "fp32_flat_groups": [torch.ones(2)]}}
    for name, part in (("zero_pp_rank_0_mp_rank_00_model_states.pt", empty), ("optim_states.pt", optimizer)):
        with pytest.raises(CorruptFileError, match=r"one part .* DeepSpeed's ZeRO .*python zero_to_fp32\.py FOLDER"):
            read_checkpoint(saved(tmp_path / name, part))


def test_lightning(tmp_path: Path) -> None:
    content = {
        "state_dict": {f"model.{name}": tensor for name, tensor in STATE.items()},
        "pytorch-lightning_version": "2.5",
        "hyper_parameters": argparse.Namespace(lr=0.1),
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}],
        "loops": {"fit_loop": {"state_dict": {}}},
    }
    assert read_checkpoint(saved(tmp_path / "epoch=1.ckpt", content)).state.keys() == STATE.keys()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_module_is_refused_with_the_fix(tmp_path: Path, zipped: bool) -> None:
    with pytest.raises(CorruptFileError, match=r"holds 'torch.nn.modules.linear Linear'.*model\.state_dict\(\)"):
        read_checkpoint(saved(tmp_path / "a.pth", torch.nn.Linear(2, 2), zipped))


@pytest.mark.parametrize("function", [bytearray, torch.Tensor, torch.storage.UntypedStorage])
def test_a_small_file_cannot_allocate_much(tmp_path: Path, function: Any) -> None:  # noqa: ANN401
    """Functions that ``weights_only`` permits."""
    path = with_pickle(tmp_path / "a.pth", pickle.dumps({"a": Call(function, 1 << 33)}, protocol=2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CorruptFileError, match="holds"):
        read_checkpoint(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 18  # KiB


@pytest.mark.parametrize("zipped", [True, False])
def test_shape_larger_than_the_file(tmp_path: Path, zipped: bool) -> None:
    path = saved(tmp_path / "a.pth", {"a": torch.ones(1).expand(1 << 40)}, zipped)
    with pytest.raises(CorruptFileError, match=r"a \[1099511627776\] does not fit in \d+ bytes"):
        read_checkpoint(path)


def test_legacy_storage_larger_than_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", {"a": torch.ones(777)}, zipped=False)
    size = b"M" + (777).to_bytes(2, "little")  # pickle's BININT2, and as LONG1:
    path.write_bytes(path.read_bytes().replace(size, b"\x8a\x06" + (1 << 44).to_bytes(6, "little")))
    with pytest.raises(CorruptFileError, match="not a PyTorch state dict"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([torch.ones(1)], "it holds a list"),
        (torch.ones(1), "it holds a Tensor"),
        ({"a": 3}, "entry 'a' is a int, not a tensor"),
        ({3: torch.ones(1)}, "holds tensors, but not by name: its first key is 3"),
        ({}, "holds no weights"),
        ({**STATE, "b": torch.eye(3).to_sparse()}, "entry 'b' is made by .*_rebuild_sparse_tensor.*not a plain tensor"),
        ({"state_dict": {}}, "holds no weights"),
        ({"a": torch.eye(3).to_sparse()}, "_rebuild_sparse_tensor"),
        ({"a": torch.ones(3, device="meta")}, "_rebuild_meta_tensor_no_storage"),
    ],
)
def test_other_content(tmp_path: Path, value: object, reason: str) -> None:
    with pytest.raises(CorruptFileError, match=reason):
        read_checkpoint(saved(tmp_path / "a.pth", value))


def test_archive_entry_that_pytorchs_reader_takes_for_a_folder(tmp_path: Path) -> None:
    """It gives uninitialized memory for such an entry, and divides by the alignment in it."""
    path = saved(tmp_path / "a.pth", STATE)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"a/.storage_alignment") - 46
    assert content[entry : entry + 4] == b"PK\1\2"
    content[entry + 38] |= 0x10  # the directory flag of its attributes
    path.write_bytes(content)
    assert torch.equal(read_checkpoint(path).state["a.weight"], STATE["a.weight"])


def test_archive_without_a_pickle_or_with_two(tmp_path: Path) -> None:
    for names, reason in (
        (["a/data.pkl/x"], "is a zip archive"),
        (["a/data.pkl", "b/data.pkl"], "data.pkl appears twice"),
    ):
        with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
            for name in names:
                archive.writestr(name, b"\x80\x02}.")
        with pytest.raises(CorruptFileError, match=reason):
            read_checkpoint(tmp_path / "a.pth")


def test_compressed_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))
    with pytest.raises(CorruptFileError, match="compressed records, as TorchScript"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("content", [b"PK\3\4", b"some text", b"\x80\x02}q\x00", bytes(100)])
def test_wrong_kind(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"a\.pt: not a PyTorch state dict, truncated or damaged"):
        read_checkpoint(tmp_path / "a.pt")
