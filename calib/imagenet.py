"""The classes of ImageNet's challenge (ILSVRC 2012) in the order that every published network of it has.

``imagenet.txt`` is a class list: WordNet ids, sorted, and names, the first word of each in WordNet 3.0 (Princeton
University), made unique where two classes share it.
"""

from __future__ import annotations

from pathlib import Path

from squeezeedge.calib.labels import ClassList, read_class_list

__all__ = ["imagenet_classes"]


def imagenet_classes() -> ClassList:
    """The 1000 classes: WordNet ids and names, all different.

    Raises:
        UsageError: the installation lacks the file.
    """
    return read_class_list(Path(__file__).with_name("imagenet.txt"))
