"""Chrome traces of runs."""

import json

import numpy as np

from squeezeedge.targets.vta.geometry import Geometry, Memory
from squeezeedge.targets.vta.isa import Finish, Load
from squeezeedge.targets.vta.isa.words import encode
from squeezeedge.targets.vta.simulator import Registers, Simulator
from squeezeedge.targets.vta.timeline import chrome_trace


def test_bars_and_waits() -> None:
    program = [
        Load(memory=Memory.INP, sram_base=0, dram_base=0, y_size=1, x_size=8, x_stride=8, push_next=True),
        Finish(pop_prev=True),
    ]
    dram = np.zeros(1024, np.uint8)
    dram[:32] = encode(program, Geometry(), "published").view(np.uint8).ravel()
    report = Simulator(Geometry()).run(dram, Registers(count=2, program=0))
    trace = json.loads(json.dumps(chrome_trace(program, report, 100.0, ["conv1", "end"])))
    names = {event["tid"]: event["args"]["name"] for event in trace["traceEvents"] if event["ph"] == "M"}
    assert names == {0: "fetch", 1: "load", 2: "compute", 3: "store"}
    load, wait, finish = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert (load["name"], load["tid"], load["args"]["cycles"]) == ("conv1", 1, 4 + 64 + 16)
    assert load["dur"] == (4 + 64 + 16) / 100
    assert (wait["name"], finish["name"], finish["tid"]) == ("wait", "end", 2)
    assert np.isclose(wait["ts"] + wait["dur"], finish["ts"])
    assert np.isclose(load["ts"] + load["dur"], finish["ts"])
