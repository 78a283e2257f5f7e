"""The losses of SuperSimpleNet: focal and truncated L1 of the map, focal of the image's score."""

from torch import Tensor

from exdd_ray.methods.segmentation import focal_loss
from exdd_ray.methods.supersimplenet.network import Found

GAMMA = 4.0


def heads_loss(found: Found, masks: Tensor, margin: float) -> Tensor:
    """The sum of all three.

    Args:
        masks: 0 or 1 [B x 1 x h x w]; an image is anomalous where any of its patches is.
        margin: of the truncated L1.
    """
    labels = masks.amax(dim=(1, 2, 3))
    maps, scores = found.maps.float(), found.scores.float()  # of a bfloat16 logit above 6 the sigmoid is 1
    of_map = focal_loss(maps.sigmoid(), masks, GAMMA) + truncated_l1(maps, masks, margin)
    return of_map + focal_loss(scores.sigmoid(), labels, GAMMA)


def truncated_l1(maps: Tensor, masks: Tensor, margin: float) -> Tensor:
    """mean max(s + margin, 0) over normal patches + mean max(margin - s, 0) over anomalous ones; 0 where none is."""
    total = maps.new_zeros(())
    for sign, part in ((1, maps[masks < 0.5]), (-1, maps[masks > 0.5])):
        if part.numel():
            total = total + (margin + sign * part).clamp(min=0).mean()
    return total
