"""SqueezeNet (Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016).

State-dict names are torchvision's; the complex bypass adds ``features.N.bypass.{weight,bias}``. Modules use only
convolution, ReLU, max pooling, concatenation, addition, dropout, global average pooling and flatten, so that
``torch.export`` gives nothing else.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from squeezeedge.errors import UsageError
from squeezeedge.networks.variants import FIRES, STRIDE, Variant

__all__ = ["Fire", "SqueezeNet"]


class Fire(nn.Module):
    """Squeeze by 1x1, expand by 1x1 and 3x3, concatenate; optionally add a bypass around it all.

    Args:
        channels: of the input.
        squeeze: channels of the 1x1 convolution in front.
        expand1x1: output channels that come from 1x1 filters.
        expand3x3: output channels that come from 3x3 filters.
        bypass: module from input to what is added to the output; ``None`` adds nothing.
    """

    def __init__(
        self, channels: int, squeeze: int, expand1x1: int, expand3x3: int, bypass: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand1x1, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand3x3, 3, padding=1)
        self.relu = nn.ReLU()
        self.bypass = bypass

    def forward(self, x: Tensor) -> Tensor:
        """float32 [N, channels, H, W] -> [N, expand1x1 + expand3x3, H, W]."""
        squeezed = self.relu(self.squeeze(x))
        expanded = torch.cat([self.relu(self.expand1x1(squeezed)), self.relu(self.expand3x3(squeezed))], 1)
        return expanded if self.bypass is None else expanded + self.bypass(x)


class SqueezeNet(nn.Module):
    """SqueezeNet in one variant.

    Weights start as He et al. (2015) propose, biases at zero. Expansions that a bypass is added to start smaller, by
    the root of the number of bypasses (as in GPT-2; Radford et al., 2019). Without normalization, each sum would
    otherwise double the activations' variance.

    Args:
        variant: the architecture.
        classes: number of classes.
        dropout: share of the last fire module's outputs that training drops.

    Raises:
        UsageError: no classes.
    """

    def __init__(self, variant: Variant, classes: int = 1000, dropout: float = 0.5) -> None:
        super().__init__()
        if classes < 1:
            raise UsageError(f"a network needs at least one class, not {classes}")
        self.variant = variant
        first = nn.Conv2d(3, variant.channels, variant.kernel, stride=STRIDE, padding=variant.padding)
        layers: list[nn.Module] = [first, nn.ReLU()]
        channels = variant.channels
        for index, (squeeze, expand1x1, expand3x3) in FIRES.items():
            if index in variant.pool_before:
                layers.append(nn.MaxPool2d(3, stride=2, ceil_mode=variant.ceil_mode))
            expanded = expand1x1 + expand3x3
            bypass: nn.Module | None = None
            if variant.bypass is not None and channels == expanded:
                bypass = nn.Identity()
            elif variant.bypass == "complex":
                bypass = nn.Conv2d(channels, expanded, 1)
            layers.append(Fire(channels, squeeze, expand1x1, expand3x3, bypass))
            channels = expanded
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Conv2d(channels, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1))
        )
        self._start()

    def _start(self) -> None:
        """Set the weights to begin training with; a network on the device "meta" has shapes only."""
        if self.features[0].weight.is_meta:
            return
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        bypassed = [layer for layer in self.features if isinstance(layer, Fire) and layer.bypass is not None]
        with torch.no_grad():
            for fire in bypassed:
                if isinstance(fire.bypass, nn.Conv2d):
                    fire.bypass.weight /= math.sqrt(2)  # no ReLU halves its outputs
                for expand in (fire.expand1x1, fire.expand3x3):
                    expand.weight /= math.sqrt(len(bypassed))

    def forward(self, x: Tensor) -> Tensor:
        """Normalized RGB, float32 [N, 3, H, W] -> logits [N, classes].

        Raises:
            UsageError: H or W is less than :attr:`Variant.smallest_input`.
        """
        self.variant.check_input((x.shape[2], x.shape[3]))
        return torch.flatten(self.classifier(self.features(x)), 1)
