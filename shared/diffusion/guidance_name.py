"""Which guidance a recipe asks for, by name. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from shared.plugins import OneOf

CLASSIFIER_FREE = "classifier-free"
GuidanceName = Annotated[str, OneOf((CLASSIFIER_FREE,), "guidance")]
