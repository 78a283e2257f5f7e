"""Config of a part of a mixture: a synthesizer of the table, and its share."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import (
    Field,
    PlainValidator,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    field_serializer,
    field_validator,
)

from exdd_ray.config.base import Frozen, without
from exdd_ray.synthesizers.config import SynthesizerConfig
from exdd_ray.synthesizers.table import any_synthesizer


def _of_the_table(given: Any) -> SynthesizerConfig:
    """The config of a synthesizer, whose count a mixture will give."""
    return any_synthesizer().validate_python(given).model_copy(update={"count": 0})


class PartConfig(Frozen):
    """A part of a mixture.

    Attributes:
        share: of the mixture's samples, in relation to the shares of the others.
        synthesizer: that makes them, of any kind; how many is the mixture's `count`.
    """

    share: float = Field(1.0, gt=0)
    synthesizer: Annotated[SerializeAsAny[SynthesizerConfig], PlainValidator(_of_the_table)]

    @field_validator("synthesizer", mode="before")
    @classmethod
    def _without_a_count(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and "count" in given:
            raise ValueError("count is the mixture's, and the share says how much of it is this part's: unset it here")
        return given

    def aside(self) -> Iterator[str]:
        """The count is the mixture's."""
        yield "synthesizer.count"

    @field_serializer("synthesizer", mode="wrap")
    def _dump_without_its_count(self, synthesizer: SynthesizerConfig, dump: SerializerFunctionWrapHandler) -> Any:
        return without(dump(synthesizer), "count")
