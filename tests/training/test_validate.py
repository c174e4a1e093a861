"""fp32 inference."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.training.validate import logits

SMALL = Preprocessing(size=(4, 4), resize=None)


class _Means(nn.Module):
    """Channel means through a dropout, which shows in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.9)
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        assert torch.is_inference_mode_enabled()
        return self.dropout(x).mean((2, 3))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("count", [0, 1, 64, 65, 150])
def test_batches_in_evaluation_mode(count: int, training: bool) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)
    module = _Means().train(training)
    answers = logits(module, images, SMALL)
    assert answers.shape == (count, 3) and answers.dtype == np.float32
    np.testing.assert_allclose(answers, SMALL.normalize(images).mean((2, 3)), rtol=1e-5, atol=1e-6)
    assert max(module.sizes) <= 64 and sum(module.sizes) == count
    assert module.training == training
