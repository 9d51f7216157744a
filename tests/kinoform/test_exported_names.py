"""What `import kinoform` offers: declared, described, typed, and nothing else."""

import inspect
from importlib.resources import files
from types import ModuleType

import pytest

import kinoform


def test_all_is_sorted_and_complete():
    assert kinoform.__all__ == sorted(kinoform.__all__)
    public = {
        name for name, value in vars(kinoform).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert {*kinoform.__all__} == public | {"__version__"}


def test_a_star_imports_just_those():
    names = {}
    exec("from kinoform import *", names)
    assert {*names} - {"__builtins__"} == {*kinoform.__all__}


@pytest.mark.parametrize("name", [name for name in kinoform.__all__ if name != "__version__"])
def test_every_name_says_what_it_is(name):
    value = getattr(kinoform, name)
    described = {name: value}
    if inspect.isclass(value):
        members = {key: value for key, value in vars(value).items() if not key.startswith("_")}
        described |= {
            key: value for key, value in members.items() if inspect.isfunction(value) or isinstance(value, property)
        }
    for key, thing in described.items():
        assert thing.__doc__, key
        assert not thing.__doc__.startswith(f"{key}("), key  # what a dataclass says of itself


def test_types_come_with_the_package():
    assert files("kinoform").joinpath("py.typed").is_file()
    for name in ("image", "clip", "asset", "load"):
        assert "return" in getattr(kinoform, name).__annotations__


def test_errors_are_of_one_family():
    assert issubclass(kinoform.InputError, kinoform.KinoformError)
    assert issubclass(kinoform.ModelError, kinoform.InputError)
    assert issubclass(kinoform.OutputError, kinoform.KinoformError)
    assert not issubclass(kinoform.OutputError, kinoform.InputError)
