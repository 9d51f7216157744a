"""The house, read from the source: who imports whom, who prints, what a config module may load."""

import ast
import graphlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {  # package: what it may import of ours
    "shared": {"shared"},
    "video": {"shared", "video"},
    "dreamfusion": {"shared", "dreamfusion"},
    "world": {"shared", "world"},
    "lab": {"shared", "video", "dreamfusion", "world", "lab"},
    "kinoform": {"shared", "lab", "kinoform"},
}
ROOMS = {  # rooms of a package, in order: each may import those before it
    "shared": ("artifacts", "attention", "diffusion", "compute", "latents", "models", "training", "plan", "images"),
    "dreamfusion": ("fields", "guidance", "render", "mesh"),
    "video": ("frames", "motion", "training"),
    "lab": ("kinds", "jobs", "batch", "web", "show", "training", "commands"),
}
# What stands beside the rooms.
TOP = {"shared": {"errors", "rng", "version", "recipe", "cameras", "view_words", "plugins"}}
MOST_FILES = 12  # of a folder, its __init__ aside
OURS = {*PACKAGES, "tests", "benchmarks", "configs"}
DOORS_ONLY = {"argparse", "tyro", "rich", "click", "typer", "getpass", "readline"}
NEVER = {"torchvision", "decord", "lightning", "pytorch_lightning"}
INTERNALS = ROOT / "shared/compute/torch_internals.py"  # alone may import what torch does not show
SOURCES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, file: Path) -> set[str]:
    """Every module that a source imports, anywhere in it, by statement or by import_module; relative ones resolved."""
    package = file.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            found.update({base, *(f"{base}.{alias.name}" for alias in node.names)})
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            found.update(a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))
    return found


def faults(source: str, file: Path) -> list[str]:
    """What a source of ours does that its place in the house does not allow."""
    package = file.relative_to(ROOT).parts[0]
    tree = ast.parse(source)
    roots = {name.split(".")[0] for name in imported(tree, file)}
    found = [f"imports {name}" for name in sorted(roots & OURS - PACKAGES[package])]
    found += [f"imports {name}" for name in sorted(roots & NEVER)]
    if file != INTERNALS:
        private = re.compile(r"torch\.(.+\.)?_(?!_)")
        found += [
            f"imports {name}, as only {INTERNALS.name} may"
            for name in sorted(imported(tree, file))
            if private.match(name)
        ]
    found += [f"imports {name}, a room after its own" for name in sorted(later_rooms(tree, file))]
    if package != "lab":
        found += [f"imports {name}, as only lab may" for name in sorted(roots & DOORS_ONLY)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                call = ast.unparse(node.func)
                if call in ("print", "input", "sys.exit", "sys.stdout.write", "sys.stderr.write"):
                    found.append(f"line {node.lineno} calls {call}, as only lab may")
    return found


def later_rooms(tree: ast.AST, file: Path) -> set[str]:
    """Rooms of its package that a source imports although they come after its own."""
    package, room, *_ = file.relative_to(ROOT).parts
    rooms = ROOMS.get(package, ())
    if room not in rooms:
        return set()
    after = {f"{package}.{name}" for name in rooms[rooms.index(room) + 1 :]}
    return {name for name in after for found in imported(tree, file) if f"{found}.".startswith(f"{name}.")}


def test_there_are_sources() -> None:
    assert {file.relative_to(ROOT).parts[0] for file in SOURCES} == set(PACKAGES)


def test_every_source_keeps_to_its_place() -> None:
    found = [
        f"{file.relative_to(ROOT)}: {fault}" for file in SOURCES for fault in faults(file.read_text("utf-8"), file)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("file", "source", "fault"),
    [
        ("shared/x.py", "import video.network", "imports video"),
        ("shared/x.py", "def f():\n    from lab import main", "imports lab"),
        ("video/x.py", "from dreamfusion import fields", "imports dreamfusion"),
        ("world/x.py", "import video.network", "imports video"),
        ("dreamfusion/x.py", "from world.prompt import VIEWS", "imports world"),
        ("shared/latents/x.py", "from shared import models", "imports shared.models, a room after its own"),
        ("lab/kinds/x.py", "def f():\n    import lab.jobs.run", "imports lab.jobs, a room after its own"),
        ("video/x.py", "from ..dreamfusion import field", "imports dreamfusion"),
        ("dreamfusion/x.py", "import importlib\nimportlib.import_module('video.network')", "imports video"),
        ("dreamfusion/x.py", "import tests.tolerances", "imports tests"),
        ("lab/x.py", "import torchvision.ops", "imports torchvision"),
        ("video/x.py", "import torch._guards", "imports torch._guards, as only torch_internals.py may"),
        ("video/x.py", "import argparse", "imports argparse, as only lab may"),
        ("video/x.py", "def f():\n    print('x')", "line 2 calls print, as only lab may"),
        ("shared/x.py", "import sys\nsys.exit(1)", "line 2 calls sys.exit, as only lab may"),
    ],
)
def test_a_fault_is_found(file: str, source: str, fault: str) -> None:
    assert faults(source, ROOT / file) == [fault]


def test_what_is_allowed_is_no_fault() -> None:
    assert not faults("import torch, argparse\nfrom video import recipe\nprint(1)", ROOT / "lab/x.py")
    assert not faults("from .attention import attend\nimport shared.rng", ROOT / "shared/x.py")


def test_rooms_are_the_folders_and_none_is_crowded() -> None:
    for package, rooms in ROOMS.items():
        inside = {folder.name for folder in (ROOT / package).iterdir() if (folder / "__init__.py").is_file()}
        assert inside == set(rooms)
    for package, names in TOP.items():
        assert {file.stem for file in (ROOT / package).glob("*.py")} == {*names, "__init__"}
    folders = Counter(file.parent for file in SOURCES if file.name != "__init__.py")
    assert not {str(folder): count for folder, count in folders.items() if count > MOST_FILES}


def test_xformers_is_imported_in_at_most_one_file() -> None:
    users = [
        f for f in SOURCES if any(n.split(".")[0] == "xformers" for n in imported(ast.parse(f.read_text("utf-8")), f))
    ]
    assert len(users) <= 1, users


def test_modules_import_in_no_circle() -> None:
    names = {module_name(file): file for file in SOURCES}
    graph = {}
    for name, file in names.items():
        tree = ast.parse(file.read_text("utf-8"))
        # The body of the module alone: an import inside a function runs when every module is there already.
        body = ast.Module([n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))], [])
        graph[name] = (imported(body, file) & set(names)) - {name}
        # `from package import submodule` in a submodule names the package as well; its __init__ only hands names on.
        graph[name] -= {package for package in graph[name] if name.startswith(package + ".")}
    tuple(graphlib.TopologicalSorter(graph).static_order())


def test_inits_hand_names_on_and_do_nothing_else() -> None:
    for file in SOURCES:
        if file.name == "__init__.py":
            for node in ast.parse(file.read_text("utf-8")).body:
                allowed = isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef)) or (
                    isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                )
                named = isinstance(node, (ast.Assign, ast.AnnAssign)) and "__all__" in ast.unparse(node)
                checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
                assert allowed or named or checking, f"{file.relative_to(ROOT)}, line {node.lineno}"


def test_configs_are_yaml_alone() -> None:
    strangers = [f for f in (ROOT / "configs").rglob("*") if f.is_file() and f.suffix != ".yaml"]
    assert not strangers


def test_recipes_and_doors_import_no_torch() -> None:
    light = [module_name(file) for file in SOURCES if file.stem == "recipe" or file.stem.endswith("_recipe")]
    light += [
        "shared.errors",
        "shared.artifacts.files",
        "shared.artifacts.run_record",
        "shared.artifacts.media",
        "shared",
        "video",
        "dreamfusion",
    ]
    light += [module_name(file) for file in SOURCES if file.relative_to(ROOT).parts == ("lab", "main.py")]
    program = (
        "import importlib, sys\n"
        f"for name in {light!r}:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
        "    assert not heavy, f'{name} imports {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# Tests of what is no module of ours: two modules together, or a whole.
NO_MODULE = {
    "tests/docs/test_examples.py",
    "tests/kinoform/test_exported_names.py",
    "tests/lab/commands/test_bad_input.py",
    "tests/shared/attention/test_large.py",
    "tests/shared/models/layouts/test_single_file_xl.py",
    "tests/video/test_pipeline_contract.py",
}


def without_module(tests: list[str]) -> set[str]:
    """Those of some test files that no module or folder of the mirrored name has: tests/a/b/test_c.py has a/b/c."""
    mirrored = {test: ROOT.joinpath(*Path(test).parts[1:-1], Path(test).stem.removeprefix("test_")) for test in tests}
    return {test for test, module in mirrored.items() if not (module.is_dir() or module.with_suffix(".py").is_file())}


def test_tests_mirror_the_packages() -> None:
    tests = [str(file.relative_to(ROOT)) for file in (ROOT / "tests").glob("*/**/test_*.py")]
    assert len(tests) > 100
    assert without_module(tests) == NO_MODULE
    assert without_module(["tests/lab/test_session.py", "tests/lab/commands/test_make.py"]) == set()
    assert without_module(["tests/lab/test_make.py", "tests/lab/jobs/test_runs.py"]) == {
        "tests/lab/test_make.py",
        "tests/lab/jobs/test_runs.py",
    }
