"""Folders of tiny pipelines, saved once."""

import pytest

from benchmarks.model_classes import save
from tests.shared.models.pipelines.tiny.table import TINY


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory):
    """(class name) -> its folder, which tests leave as it is."""
    known = {}

    def folder(name):
        if name not in known:
            known[name] = tmp_path_factory.mktemp(name) / "model"
            save(TINY[name], known[name])
        return known[name]

    return folder
