"""The kinds of things that the lab makes: one object each, which commands, the Python API and jobs all go through."""

from lab.kinds.asset import ASSET
from lab.kinds.clip import CLIP
from lab.kinds.image import IMAGE
from lab.kinds.kind import Kind, Output
from lab.kinds.table import kind_of, kind_of_record, kinds

__all__ = ["ASSET", "CLIP", "IMAGE", "Kind", "Output", "kind_of", "kind_of_record", "kinds"]
