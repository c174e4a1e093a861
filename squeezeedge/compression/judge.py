"""What compression costs, judged on images that it has not seen.

Alone, these few images would give the drop in steps of several points. So the error of each judged image's logits is
added to the logits of every image, and the classes of all these pairs are counted. The result is the expected agreement
if errors did not depend on the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from squeezeedge.compression.search import Point
from squeezeedge.evaluation.metrics import sqnr_db
from squeezeedge.graph import IntegerGraph
from squeezeedge.quantization.qat import QatNetwork

__all__ = ["Judge", "graph_logits"]

BATCH = 16


@dataclass(frozen=True, eq=False)
class Judge:
    """The uncompressed graph's answers.

    Attributes:
        pixels: judged images, uint8 [n, H, W, 3].
        reference: their logits in the uncompressed graph, float32 [n, classes].
        known: logits of all images in the uncompressed graph, float32 [N, classes].
        labels: of all images, int64 [N], or ``None`` if unknown.
    """

    pixels: NDArray[np.uint8]
    reference: NDArray[np.float32]
    known: NDArray[np.float32]
    labels: NDArray[np.int64] | None

    def point(self, graph: IntegerGraph, size: int, quality: float | None) -> Point:
        """Judge a compressed graph of so many bytes."""
        logits = graph_logits(graph, self.pixels)
        errors = logits - self.reference
        classes = np.stack([(self.known + error).argmax(1) for error in errors])  # [n, N]
        before = self.known.argmax(1)
        top1 = drop = None
        if self.labels is not None:
            top1 = 100 * float((classes == self.labels).mean())
            drop = 100 * float((before == self.labels).mean()) - top1
        agreement = 100 * float((classes == before).mean())
        return Point(quality, size, agreement, sqnr_db(self.reference, logits), top1, drop)


@torch.no_grad()
def graph_logits(graph: IntegerGraph, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits of an integer graph, float32 [N, classes]: those of the oracle.

    Args:
        graph: the graph.
        pixels: uint8 [N, H, W, 3].
    """
    network = QatNetwork(graph).eval()
    batches = np.split(pixels, range(BATCH, len(pixels), BATCH))
    sums = [network.class_sums(torch.from_numpy(batch).permute(0, 3, 1, 2).float()) for batch in batches]
    return (torch.cat(sums).float() * network.scale).numpy()
