"""DiffusionAD's losses: noise of normal samples, and the segmentation's SmoothL1 and focal loss."""

from torch import Tensor
from torch.nn import functional

from exdd_ray.methods.segmentation import focal_loss

FOCAL_WEIGHT = 5.0
FOCAL_ALPHA = 0.5  # of anomalous and of normal pixels alike
FOCAL_GAMMA = 4.0


def noise_loss(errors: Tensor, weights: Tensor, reduction: str) -> Tensor:
    """Mean over the samples of the weighted squared noise errors of both scales.

    Args:
        errors: [2 x B] of the weak and the strong scale.
        weights: [B]; with 0 for an anomalous sample and (samples / normal samples) of the step for a normal one, the
            mean over all samples of the step is that over the normal ones, and 0 where there is none.
        reduction: `sum` or `mean` of the scales.
    """
    scales = errors.sum(dim=0) if reduction == "sum" else errors.mean(dim=0)
    return (weights * scales).mean()


def segmentation_loss(probabilities: Tensor, masks: Tensor) -> Tensor:
    """SmoothL1 + 5 focal, of probabilities and masks (0 or 1) [B x 1 x H x W]."""
    smooth = functional.smooth_l1_loss(probabilities, masks)
    return smooth + FOCAL_WEIGHT * FOCAL_ALPHA * focal_loss(probabilities, masks, FOCAL_GAMMA)
