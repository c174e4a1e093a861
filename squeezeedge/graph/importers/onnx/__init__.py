"""ONNX file -> float graph, in the order of the modules.

``file`` reads and checks, ``front`` looks at the input, ``constants`` computes what does not depend on the image,
``values`` and ``steps`` are what the walk over the nodes makes, ``layers``, ``pointwise`` and ``shapes`` know the
operators, ``walk`` goes through the nodes, ``tidy`` folds arithmetic with constants, and ``channels`` writes the float
graph.
"""
