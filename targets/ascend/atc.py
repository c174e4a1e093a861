"""ATC, CANN's model converter: its command line, its image preprocessing (AIPP) and a run of it.

Arguments and AIPP keys are those of the ATC guide's resnet examples (Ascend/ModelZoo-PyTorch and Ascend/samples:
``atc --framework=5 ... --insert_op_conf=aipp.config``; the keys are checked by hicann/ge's AIPP operator). Messages
begin with a code, as ``E10001:`` or ``EZ3003:``, after the line "ATC run failed" (hicann/ge: the atc program).
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.graph import IMAGE
from squeezeedge.graph.rules import Shape

__all__ = ["AIPP", "ATC_LOG", "ATC_SCRIPT", "DEPLOY_MODEL", "NOT_FOUND", "aipp_config", "atc_command", "run_atc"]

DEPLOY_MODEL = "model_deploy_model.onnx"
"""AMCT's name of what goes into ATC."""

OFFLINE_MODEL = "model.om"
AIPP = "aipp.cfg"
ATC_SCRIPT = "atc.sh"
ATC_LOG = "atc.log"
NOT_FOUND = "not compiled: atc not found"

MESSAGE = re.compile(r"\s*(E[A-Z0-9]{5}\b|\[ERROR\]|ATC run failed|(Possible Cause|Solution):)")
SHOWN = 8


def aipp_config(image: Shape) -> str:
    """AIPP's configuration: the device takes the RGB bytes of the image and the network sees them as 0..255.

    Mean and standard deviation are in the first convolution (R2), so AIPP only turns bytes into fp16 planes.
    """
    settings: dict[str, object] = {
        "aipp_mode": "static",
        "related_input_rank": 0,
        "input_format": "RGB888_U8",
        "src_image_size_w": image.width,
        "src_image_size_h": image.height,
        "crop": "false",
        "csc_switch": "false",
        "rbuv_swap_switch": "false",
        **{f"min_chn_{channel}": 0.0 for channel in range(3)},
        **{f"var_reci_chn_{channel}": 1.0 for channel in range(3)},
    }
    return "aipp_op {\n" + "".join(f"    {key} : {value}\n" for key, value in settings.items()) + "}\n"


def atc_command(image: Shape, soc_version: str) -> list[str]:
    """The conversion, to be run in the artifact's folder; makes model.om."""
    return [
        "atc",
        "--framework=5",
        f"--model={DEPLOY_MODEL}",
        f"--output={OFFLINE_MODEL.removesuffix('.om')}",
        "--input_format=NCHW",
        f"--input_shape={IMAGE}:1,3,{image.height},{image.width}",
        f"--soc_version={soc_version}",
        f"--insert_op_conf={AIPP}",
        "--output_type=FP32",
        "--log=error",
    ]


def atc_script(command: list[str]) -> str:
    """The same as a shell script that runs in its own folder."""
    return (
        "#!/bin/sh\n# Makes model.om of the artifact; needs CANN's toolkit (source its set_env.sh first).\n"
        f'cd "$(dirname "$0")" || exit 1\nexec {shlex.join(command)}\n'
    )


def run_atc(command: list[str], folder: Path) -> str:
    """Run ATC if it is here and keep its log in the folder.

    Returns:
        What the manifest says of it: ATC's path, or :data:`NOT_FOUND`.

    Raises:
        SqueezeEdgeError: ATC fails; the text has the lines of its output that tell why.
    """
    program = shutil.which(command[0])
    if program is None:
        return NOT_FOUND
    result = subprocess.run(
        [program, *command[1:]],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    (folder / ATC_LOG).write_text(f"$ {shlex.join(command)}\n{result.stdout}", encoding="utf-8")
    made = sorted(folder.glob("model*.om"))  # some versions put the host's system into the name
    if result.returncode or len(made) != 1:
        lines = [line.rstrip() for line in result.stdout.splitlines() if line.strip()]
        telling = [line for line in lines if MESSAGE.match(line)] or lines[-SHOWN:]
        reason = "\n".join(telling[:SHOWN]) or f"exit code {result.returncode}, no output"
        raise SqueezeEdgeError(f"atc failed ({shlex.join(command)}):\n{reason}")
    made[0].rename(folder / OFFLINE_MODEL)
    return program
