"""What settings are made of: the base of their sections, and the bounds that they share."""

from __future__ import annotations

from typing import Annotated

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
