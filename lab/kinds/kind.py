"""What the lab needs to know of a kind of thing that it makes.

A kind makes its results in two parts: `sample` is the long loop, for several recipes at once where that pays; `finish`
turns what it ended with into one recipe's result. Kinds import torch inside their methods: help and checks need none.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from shared.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lab.results import Result
    from shared.artifacts.run_record import RunRecord
    from shared.models.image_model import ImageModel
    from shared.models.made_for import MadeFor
    from shared.models.pipelines.load import PipelineModel
    from shared.plan.estimate import Estimate


@dataclass(frozen=True)
class Output:
    """Where a result goes: `path`, or nowhere. turntable: of assets alone, a clip of it turning."""

    path: str | None = None
    turntable: str | None = None


Loader = Callable[..., Any]
Planner = Callable[[Any], "Estimate"]
Savings = Callable[[Any], Iterator[dict[str, Any]]]


@runtime_checkable
class Kind(Protocol):
    """name: of the command, in lower case. recipe: its class. default: the file that is written where none is named.
    help: of the command, and examples of it. formats: which there are. looping: what its long loop is called.
    in_folder: whether one result may be a folder. turntable: whether there may be a clip of it turning.
    unused: components of a model folder that have no part in a result: they may change, and a rerun is the same.
    parts: components that it needs beside those of an image model.
    pipelines: classes of diffusers that will do in place of our core; None: any.
    """

    name: str
    recipe: type[Recipe]
    default: str
    help: str
    examples: tuple[str, ...]
    formats: str
    in_folder: bool
    turntable: bool
    looping: str
    unused: tuple[str, ...]
    parts: tuple[str, ...]
    pipelines: frozenset[str] | None

    def output(self, path: str) -> Output:
        """Where a result goes that is to be at `path`."""
        ...

    def check(self, recipe: Any, output: Output) -> None:
        """Raises InputError for an output that cannot be written, before anything is loaded."""
        ...

    def advice(self, recipe: Any, model: MadeFor) -> list[str]:
        """What to say, before the work, of a recipe that is far from what its model was made for."""
        ...

    def loader(self) -> Loader:
        """The function (source, device=, dtype=) -> model; kinds with the same loader share loaded models. Where the
        recipe is `Adapted`, it is called with lora= and embeddings= as well, if there are any."""
        ...

    def image_model(self, model: Any) -> ImageModel | PipelineModel:
        """The image model inside the model; a pipeline of diffusers answers itself."""
        ...

    def prompts(self, recipe: Any) -> list[str]:
        """The prompts that are encoded for a recipe."""
        ...

    def together(self, recipe: Any) -> Hashable:
        """Recipes with equal values here may be sampled in one batch."""
        ...

    def batch_size(self, device: str) -> int:
        """How many at once are fastest, without taking much more memory than one."""
        ...

    def planner(self, device: str) -> tuple[Planner, Savings]:
        """What a recipe takes, and the changes that make it smaller, those that cost least first. Brings in what the
        command itself holds in memory before it begins.
        """
        ...

    def sample(self, model: Any, recipes: Sequence[Any], device: str) -> Iterator[Any]:
        """The long loop: states with `step` and `total`."""
        ...

    def latents(self, state: Any, index: int) -> Tensor | None:
        """The latents "1 c ..." of recipe `index` in the last state; None where there are none to keep."""
        ...

    def finish(
        self, model: Any, recipe: Any, last: Any, record: RunRecord, device: str, timed: Callable[[str], Any]
    ) -> Result:
        """The result of one recipe. last: its latents, or the last state of the loop where there are none.
        timed: (name) -> a context manager for a stage whose time is told.
        """
        ...

    def save(self, result: Any, recipe: Any, output: Output, timed: Callable[[str], Any]) -> list[Path]:
        """Write the result; the paths that were written."""
        ...

    def read(self, path: Path) -> Result:
        """A result from a file that `save` wrote, as near as its format holds it.

        Raises InputError for another file, or one of a format that results are not read from.
        """
        ...

    def facts(self, result: Any) -> dict[str, Any]:
        """What a program wants to know of a result, beyond its record."""
        ...

    def line(self, result: Any) -> str:
        """What a person wants to know of a written result, after its name; may be empty."""
        ...


def network_dtype(recipe: Any, device: str) -> tuple[Any, torch.dtype]:
    """Where a recipe's model is loaded to, and in which precision."""
    from shared.compute.modes import compute_dtype, load_device

    return load_device(recipe.memory, device), compute_dtype(recipe.memory, device)
