"""Float graph (imported), integer graph (the contract), its numpy oracle and its file format."""

from squeezeedge.graph.integer import IMAGE, Add, Concat, Conv, Head, IntegerGraph, MaxPool, Node, Tensor

__all__ = ["IMAGE", "Add", "Concat", "Conv", "Head", "IntegerGraph", "MaxPool", "Node", "Tensor"]
