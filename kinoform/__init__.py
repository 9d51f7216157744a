"""Kinoform: a prompt becomes motion (a clip) or form (a 3D asset). This is the public Python API.

>>> import kinoform
>>> kinoform.image("a red cube", steps=4).pixels.shape
(64, 64, 3)
"""

from lab.jobs.events import Done, Failed, Stepped, Timed, Warned
from lab.results import Asset, Clip, Picture
from lab.session import Session, asset, clip, image, load
from shared.artifacts.run_record import RunRecord, read_record
from shared.errors import InputError, KinoformError, ModelError, OutputError
from shared.version import VERSION as __version__

__all__ = [
    "Asset",
    "Clip",
    "Done",
    "Failed",
    "InputError",
    "KinoformError",
    "ModelError",
    "OutputError",
    "Picture",
    "RunRecord",
    "Session",
    "Stepped",
    "Timed",
    "Warned",
    "__version__",
    "asset",
    "clip",
    "image",
    "load",
    "read_record",
]
