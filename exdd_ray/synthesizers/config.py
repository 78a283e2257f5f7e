"""Configs that several synthesizers share: where a defect may lie, and which samples are dropped."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from exdd_ray.config.base import Frozen


class ForegroundConfig(Frozen):
    """Where on an image a defect may lie.

    Attributes:
        kind: `all` of it, or where the grey value exceeds a `threshold` (MemSeg).
        level: the threshold, of 0..255.
        invert: the part is darker than its background.
    """

    kind: Literal["all", "threshold"] = "all"
    level: int = Field(100, ge=0, le=255)
    invert: bool = False

    def aside(self) -> Iterator[str]:
        """What the kind does not use."""
        if self.kind == "all":
            yield from ("level", "invert")


class FilterConfig(Frozen):
    """Which samples are dropped; levels are absolute differences of 0..255, averaged over pixels and channels.

    Attributes:
        min_inside: the least change inside the mask; less is a sample without a defect.
        max_outside: the largest change outside.
        duplicate: the least difference from every earlier sample of the same prompt.
    """

    min_inside: float = Field(2.0, ge=0)
    max_outside: float = Field(1.0, ge=0)
    duplicate: float = Field(0.5, ge=0)
