"""Float graph (imported), integer graph (the contract), its numpy oracle and its file format."""

import squeezeedge.graph.checks  # noqa: F401  (no graph is built without its checks)
from squeezeedge.graph.integer import IMAGE, Add, Concat, Conv, Head, IntegerGraph, MaxPool, Node, Tensor

__all__ = ["IMAGE", "Add", "Concat", "Conv", "Head", "IntegerGraph", "MaxPool", "Node", "Tensor"]
