"""What settings are made of: the base of their sections, and the bounds that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

# The chance of an event that is drawn.
Probability = Annotated[float, Field(ge=0, le=1)]
# A network whose every activation is dropped learns nothing.
DropProbability = Annotated[float, Field(ge=0, lt=1)]
# A part of a whole, or a level between none and all of it.
Share = Annotated[float, Field(ge=0, le=1)]
# Finite, as all numbers of settings are.
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]


class StrictModel(BaseModel):
    """A value that does not change and has the fields of its class alone: another field in a file or option fails."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Settings(StrictModel):
    """A section of the tree of settings; every field has a description, which is its line in the reference."""


class PartSettings(NamedTuple):
    """Settings of a registered part, whose `kind` names their class; whichever parts there are.

    Attributes:
        part: Word for a kind in messages, such as "network".
        default: Kind of settings that name none.
        class_of: Function from a kind to the class of its settings; no code is imported because of what a file says.
    """

    part: str
    default: str
    class_of: Callable[[str], type[Settings]]

    def read(self, value: Any) -> Any:
        """Read settings by the class of their kind, where they are a mapping; anything else stays.

        Args:
            value: Settings as a mapping, or settings already.

        Raises:
            ConfigError: No part of this kind is known in this process.
            ValidationError: A setting is unknown to the kind's class or out of its range.
        """
        if not isinstance(value, Mapping):
            return value
        kind = value.get("kind", self.default)
        if not isinstance(kind, str):
            raise ValueError(f"kind must be the name of a {self.part}, got {kind!r}")
        return self.class_of(kind).model_validate({**value, "kind": kind})
