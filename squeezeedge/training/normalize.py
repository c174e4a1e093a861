"""Batch normalization that a network has only in training.

SqueezeNet has no batch normalization and therefore learns less from the same images. In training, each of its squeeze
convolutions, which have few channels, is followed by one. :func:`folded_weights` folds it into the weights, so that the
network for use keeps its original layers.
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from squeezeedge.networks.squeezenet import Fire, SqueezeNet

__all__ = ["SharedBatchNorm", "folded_weights", "normalize"]

MOMENTUM = 0.05
"""Share of a step's statistics in those that are used after training."""
SMALLEST_DEVIATION = 0.1
"""Least deviation of a channel that is reckoned with, relative to the layer's mean, so that no factor is boundless."""
FILTER_NORM = math.sqrt(2)
"""Euclidean norm of a filter's weights as He et al. (2015) start it."""
TINY = 1e-6


class _Sum(torch.autograd.Function):
    """Sum over all processes; the gradient is the sum of the gradients of all of them."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        result = values.clone()
        dist.all_reduce(result)
        return result

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        result = gradient.clone()
        dist.all_reduce(result)
        return result


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalization (Ioffe and Szegedy, 2015) over the images of all processes, on processors as on GPUs.

    torch's own ``SyncBatchNorm`` needs GPUs. A process may have no image in a step, a channel one value.

    Args:
        channels: C.
        device: where parameters and statistics are.
    """

    def __init__(self, channels: int, device: torch.device | None = None) -> None:
        super().__init__(channels, momentum=MOMENTUM, device=device)

    def forward(self, x: Tensor) -> Tensor:
        """[n, C, H, W] -> the same, of the same dtype; statistics are computed in float32."""
        shared = dist.is_initialized() and dist.get_world_size() > 1
        if not self.training or (not shared and x[:, 0].numel() > 1):
            result: Tensor = super().forward(x)
            return result
        values, axes = x.float(), (0, 2, 3)
        count = values.new_tensor([x[:, 0].numel()])
        sums = torch.cat([values.sum(axes), values.square().sum(axes), count])
        if shared:
            sums = _Sum.apply(sums)  # type: ignore[no-untyped-call]
        mean, square = sums[:-1].reshape(2, -1) / sums[-1].clamp(min=1)
        variance = (square - mean.square()).clamp(min=0)
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            unbiased = variance * sums[-1] / (sums[-1] - 1).clamp(min=1)
            self.running_mean.lerp_(mean, MOMENTUM)
            self.running_var.lerp_(unbiased, MOMENTUM)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        column = (1, -1, 1, 1)
        shift = self.bias - mean * scale
        result = values * scale.reshape(column) + shift.reshape(column)
        return result.to(x.dtype)


class _NormalizedConvolution(nn.Conv2d):
    """A 1x1 convolution with batch normalization in place of the bias.

    Args:
        convolution: whose weights it takes over, the same parameter.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        device = convolution.weight.device
        super().__init__(convolution.in_channels, convolution.out_channels, 1, bias=False, device=device)
        self.weight = convolution.weight
        self.norm = SharedBatchNorm(convolution.out_channels, device)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.norm(super().forward(x))
        return result


def normalize(module: SqueezeNet, inputs: Tensor) -> None:
    """Put a batch normalization behind every squeeze convolution that learns; the network computes the same as before.

    Published weights give activations in the hundreds, so that one learning rate does not suit all layers. Here squeeze
    outputs get unit variance, and the filters around them get the initial norm of He et al. (2015). The factors pass
    through ReLU, pooling and concatenation, but not through a bypass, which adds.

    Args:
        module: on its device.
        inputs: examples of what it is given, float32 [n, 3, H, W]; their statistics are the first ones.
    """
    passes = module.variant.bypass is None
    scale, x = 1.0, inputs  # of the network's activations, relative to what they were
    training = module.training
    module.eval()
    with torch.no_grad():
        for layer in module.features:
            if isinstance(layer, Fire) and layer.squeeze.weight.requires_grad:
                layer.squeeze.weight.div_(scale)
                scale = _normalize(layer, x, passes)
            x = layer(x)
        *_, last = (layer for layer in module.classifier if isinstance(layer, nn.Conv2d))
        last.weight.div_(scale)
    module.train(training)


def _normalize(fire: Fire, x: Tensor, passes: bool) -> float:
    """Normalize one fire module, given its inputs; the factor that its outputs got."""
    before = fire.squeeze
    assert before.bias is not None
    variance, mean = torch.var_mean(before(x), (0, 2, 3))
    deviation = variance.sqrt()
    usual = deviation.mean().item()
    # A squeeze convolution with constant outputs has nothing to normalize.
    deviation = torch.ones_like(deviation) if usual < TINY else deviation.clamp(min=SMALLEST_DEVIATION * usual)
    factor = FILTER_NORM / _norms(before).clamp(min=TINY)
    fire.squeeze = _NormalizedConvolution(before).eval()
    fire.squeeze.weight.mul_(factor.reshape(-1, 1, 1, 1))
    norm = fire.squeeze.norm
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.copy_((mean - before.bias) * factor)
    norm.running_var.copy_(variance * factor**2)
    norm.weight.copy_((norm.running_var + norm.eps).sqrt() / (deviation * factor))
    norm.bias.copy_(mean / deviation)
    expands = (fire.expand1x1, fire.expand3x3)
    for expand in expands:
        expand.weight.mul_(deviation.reshape(1, -1, 1, 1))
    mean_norm = torch.cat([_norms(expand) for expand in expands]).mean().item()
    if not passes or mean_norm < TINY:
        return 1.0
    scale = FILTER_NORM / mean_norm
    for expand in expands:
        assert expand.bias is not None
        expand.weight.mul_(scale)
        expand.bias.mul_(scale)
    return scale


def _norms(convolution: nn.Conv2d) -> Tensor:
    """Of each filter, [output channels]."""
    result: Tensor = convolution.weight.flatten(1).norm(dim=1)
    return result


def folded_weights(module: nn.Module) -> dict[str, Tensor]:
    """The weights with which the network without batch normalization computes what this one does in evaluation."""
    weights = dict(module.state_dict())
    for name, layer in module.named_modules():
        if isinstance(layer, _NormalizedConvolution):
            norm = layer.norm
            for key in norm.state_dict():
                del weights[f"{name}.norm.{key}"]
            assert norm.running_mean is not None and norm.running_var is not None
            weight, bias = fuse_conv_bn_weights(
                layer.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            weights |= {f"{name}.weight": weight.detach(), f"{name}.bias": bias.detach()}
    return weights
