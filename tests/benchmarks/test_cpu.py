"""The benchmark of processors: its rows, its cells and its tables; times are not judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cpu import HELD, IMAGES, PREPARED, instruction_sets, main, measure, planned, tables
from benchmarks.cpu_plot import cpu_figure
from benchmarks.runtimes import BATCH, OWN, RUNTIMES, Job
from squeezeedge.evaluation.tables import WIDTH
from squeezeedge.graph.float.graph import FloatGraph
from squeezeedge.targets.cpu.options import FEATURES
from tests.graphs import random_graph

ROOT = Path(__file__).parents[2]
RECORDED = sorted((ROOT / "benchmarks" / "results").glob("cpu-*.json"))
FEW_SETS = ("avx512-vnni", "avx2", "generic")


def test_each_set_is_beside_a_comparable_one() -> None:
    rows = planned(FEW_SETS, held=True)
    assert [row.name for row in rows if row.runtime == OWN] == list(FEW_SETS)
    others = [(row.isa, row.environment) for row in rows if row.runtime == "OpenVINO"]
    assert others == [
        ("avx512-vnni", {}),
        ("avx2", {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
        ("generic", {"ONEDNN_MAX_CPU_ISA": "SSE41"}),
    ]
    assert {row.runtime for row in rows} == set(RUNTIMES)
    assert len({row.name for row in rows}) == len(rows)


def test_sets_that_nothing_tells_apart_for_a_peer_have_one_row() -> None:
    rows = planned(["avx2", "one", "another"], held=True)
    assert sum(row.runtime == "OpenVINO" for row in rows) == 2


def test_elsewhere_nothing_is_held() -> None:
    assert sum(row.runtime == "OpenVINO" for row in planned(FEW_SETS, held=False)) == 1


def test_this_machine_s_sets() -> None:
    found = instruction_sets()
    assert found[-1] == "generic" and [name for name in FEATURES if name in found] == found
    assert FEATURES.keys() >= HELD.keys()


@pytest.mark.slow
def test_measuring(tmp_path: Path) -> None:
    """Of a few random layers; a row that cannot be opened, or was not prepared, is left out with the reason."""
    graph, generic = random_graph(1), f"{OWN}-generic"
    (tmp_path / generic).mkdir()
    RUNTIMES[OWN].prepare(Job(graph, _no_graph(), np.zeros((1, 3, 1, 1), np.float32), "generic"), tmp_path / generic)
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, *graph.input_shape), np.uint8)
    np.savez(tmp_path / IMAGES, pixels=pixels, normalized=np.zeros((BATCH, 3, 1, 1), np.float32))
    row = {"runtime": OWN, "folder": generic, "isa": "generic", "environment": {}}
    lost = {**row, "name": "lost", "runtime": "ONNX Runtime", "folder": "lost"}
    prepared = {
        **{"network": "few", "graph_sha256": graph.digest(), "macs": 5000, "classes": [0] * BATCH},
        "rows": [{**row, "name": "generic"}, lost, {**lost, "name": "missing", "folder": "missing"}],
        "skipped": {"missing": "needs something"},
    }
    (tmp_path / PREPARED).write_text(json.dumps(prepared))
    values = measure(tmp_path, [1, 2], 2)
    assert values["skipped"].keys() == {"lost", "missing"} and values["skipped"]["missing"] == "needs something"
    assert values["skipped"]["lost"]
    assert [(cell["threads"], cell["batch"]) for cell in values["results"]] == [(1, 1), (1, 16), (2, 1), (2, 16)]
    peak = values["peaks"]["generic"]["gmacs_per_s"]
    for cell in values["results"]:
        assert cell["calls"] >= 2 and 0 < cell["min_ms"] <= cell["median_ms"] and cell["over_own"] == 1
        assert cell["limit_ms"] == pytest.approx(5000 * cell["batch"] / cell["threads"] / peak / 1e6)
        assert cell["of_peak"] == pytest.approx(cell["limit_ms"] / cell["min_ms"])
    assert [table.rows[0][0] for table in tables(values)] == ["generic"] * 2
    assert len(cpu_figure(values).axes[0].patches) == 1


def _no_graph() -> FloatGraph:
    return FloatGraph.__new__(FloatGraph)  # ours does not look at it


@pytest.mark.parametrize("path", RECORDED, ids=[path.stem for path in RECORDED])
def test_recorded_results(path: Path) -> None:
    """The documentation's tables are of them, and fit a terminal."""
    values = json.loads(path.read_bytes())
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for table in tables(values):
        assert str(table) in page and max(map(len, str(table).splitlines())) <= WIDTH
    for cell in values["results"]:
        assert cell["calls"] > 0 and cell["min_ms"] <= cell["median_ms"]


def test_there_are_recorded_results() -> None:
    assert RECORDED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prepare-only"], "--prepare-only needs --work"),
        (["squeezenet1_1"], "NETWORK, --weights and --data are needed"),
        (["n", "--weights", "w", "--data", "d", "--work", str(ROOT)], "was not prepared to the end; remove it"),
    ],
)
def test_arguments_that_do_not_fit(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["cpu", *arguments])
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == 2 and message in " ".join(capsys.readouterr().err.split())
