"""What every test runs under: types checked, one thread, no network, no model hub."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

# Before the first import of a hub client: a test that reaches for the network is wrong, and must not wait for it.
os.environ["HF_HUB_OFFLINE"] = "1"

# One thread in each of several processes (pytest -n), and in each that a test starts, such as a notebook's kernel: more
# threads than cores wait for one another, many times slower. Results also depend on their number, in the last bit.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

# Triton looks at this when it is first imported: without a device its kernels are interpreted, in NumPy.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

from hypothesis import settings
from jaxtyping import install_import_hook

# Before the hook, so unchecked: torch calls these at every single operation, and the checks take longer than the work.
import shared.diffusion.exact_batches
import shared.plan.hollow
import shared.plan.tracker  # noqa: F401

# Every annotation of ours, shapes included, is checked at every call that a test makes; an int will do for a float.
TYPE_CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
install_import_hook(["shared", "video", "dreamfusion", "world", "lab"], TYPE_CHECKER)

# The same examples in every run, and no deadline: a busy machine is no failure.
settings.register_profile("kinoform", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("kinoform")

torch.set_num_threads(1)


def _refuse_network(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else "localhost"
        if host not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"tests have no network: connect to {host}")


sys.addaudithook(_refuse_network)


@pytest.fixture(scope="session")
def plugin_site(tmp_path_factory):
    """Where pip has installed the package in tests/plugin: a kind, a guidance, a field, a scorer, and a broken kind."""
    source, target = tmp_path_factory.mktemp("source") / "plugin", tmp_path_factory.mktemp("site")
    shutil.copytree(Path(__file__).parent / "plugin", source, ignore=shutil.ignore_patterns("__pycache__"))
    flags = "--quiet --no-deps --no-index --no-build-isolation --disable-pip-version-check --root-user-action=ignore"
    command = [sys.executable, "-m", "pip", "install", *flags.split(), "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def with_plugin(plugin_site, monkeypatch):
    """That package is installed while a test runs."""
    from lab.kinds import kinds
    from shared import plugins

    def forget():
        plugins.installed.cache_clear()
        kinds.cache_clear()
        for name in [name for name in sys.modules if name.startswith("kinoform_example")]:
            del sys.modules[name]

    monkeypatch.syspath_prepend(plugin_site)
    forget()
    yield
    monkeypatch.undo()
    forget()
