"""The manifest of a batch: from a file to validated tasks. Imports no torch."""

from lab.batch.manifest.keys import MOST_TASKS, VERSION
from lab.batch.manifest.read import read_manifest
from lab.batch.manifest.schema import manifest_schema

__all__ = ["MOST_TASKS", "VERSION", "manifest_schema", "read_manifest"]
