"""Sizes, files, machine and origin."""

from __future__ import annotations

from dataclasses import replace

from squeezeedge._version import __version__
from squeezeedge.evaluation.page.findings import Findings
from squeezeedge.evaluation.page.provenance import about, files, origin, sizes


def test_sizes(findings: Findings) -> None:
    assert sizes(findings).rows == (
        ("fp32: 4 bytes a parameter", "10,000", "1.0"),
        ("integer graph (.sqe)", "1,000", "10.0"),
        ("what cpu loads", "2,500", "4.0"),
        ("what vta-sim loads", "2,500", "4.0"),
    )
    assert sizes(replace(findings, parameters=None)).columns == ("", "bytes")


def test_files_of_each_artifact_once(findings: Findings) -> None:
    first, second = findings.artifacts
    rows = files(findings).rows
    assert [row[:2] for row in rows] == [(name, of) for of in ("cpu", "vta") for name in ("model.sqe", "net<i>.so")]
    assert files(replace(findings, artifacts=(first, second, first))).rows == rows


def test_origin_names_no_folder(findings: Findings) -> None:
    rows = {row[0]: row[1] for row in origin(findings).rows}
    assert rows["weight file"] == "net.pth" and rows["weight file, SHA-256"] == "cd" * 32
    assert rows["integer graph, SHA-256"] == findings.graph.digest()
    assert rows["options of cpu"] == "isa=avx2" and rows["options of vta"] == "clock=100"


def test_versions_and_machine(findings: Findings) -> None:
    rows = {row[0]: row[1] for row in about(findings).rows}
    assert rows["squeezeedge, here"] == __version__ and rows["numpy, compiled with"] == "1.2.3"
    assert rows["board"] == "user@board" and rows["processor"]
