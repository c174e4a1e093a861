"""FAKE atc: checks the command line and AIPP's configuration and wraps the deploy model; prints what ATC prints."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

SUPPORTED = ("Ascend310", "Ascend310P3", "Ascend910B3")
OPTIONS = "framework model output input_format input_shape soc_version insert_op_conf output_type log".split()


def main() -> int:
    arguments = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
    print("ATC start working now, please wait for a moment.")
    unknown = arguments.keys() - set(OPTIONS)
    if unknown or set(OPTIONS) - arguments.keys():
        return fail(f"E10001: Value for parameter {sorted(unknown)} is invalid.")
    if arguments["soc_version"] not in SUPPORTED:
        return fail(
            f"E10001: Value [{arguments['soc_version']}] for parameter [--soc_version] is invalid. Reason: "
            "the parameter value is unsupported.\n        Solution: Check the value."
        )
    shape = re.fullmatch(r"image:1,3,(\d+),(\d+)", arguments["input_shape"])
    expected = {"framework": "5", "input_format": "NCHW", "output_type": "FP32"}
    if shape is None or any(arguments[name] != value for name, value in expected.items()):
        return fail("E10002: Value for parameter [--input_shape] is invalid.")
    lines = Path(arguments["insert_op_conf"]).read_text().splitlines()
    assert (lines[0], lines[-1]) == ("aipp_op {", "}")
    aipp = dict(line.strip().split(" : ") for line in lines[1:-1])
    height, width = shape.groups()
    assert (aipp["input_format"], aipp["src_image_size_h"], aipp["src_image_size_w"]) == ("RGB888_U8", height, width)
    assert all(float(aipp[f"min_chn_{n}"]) == 0 and float(aipp[f"var_reci_chn_{n}"]) == 1 for n in range(3))
    settings = json.dumps({"height": height, "width": width, **arguments}).encode()
    model = Path(arguments["model"]).read_bytes()
    Path(f"{arguments['output']}.om").write_bytes(b"FAKE OFFLINE MODEL\n" + settings + b"\n" + model)
    print("ATC run success, welcome to the next use.")
    return 0


def fail(text: str) -> int:
    print("ATC run failed, Please check the detail log, Try 'atc --help' for more information")
    print(text)
    print("        TraceBack (most recent call last):\n        something that helps nobody")
    return 255


if __name__ == "__main__":
    sys.exit(main())
