"""Configurations of diffusers' networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def changed(config: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """`config` with some of its values changed, for `from_config`.

    What diffusers keeps in it for itself is left out. "_use_default_values" names the keys that the file which it was
    read from did not have, and from_config gives those their defaults, whatever value they have by then.
    """
    return {**{key: value for key, value in config.items() if not key.startswith("_")}, **changes}
