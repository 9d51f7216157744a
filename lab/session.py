"""The Python API: prompts to pictures, clips and assets, by the same recipes and in the same bytes as the command line.

`kinoform` hands these names on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast, overload

from lab.flags import given_values
from lab.jobs.events import Done, Event, Failed
from lab.jobs.run import Context, Job, run
from lab.kinds import kinds
from lab.results import Asset, Clip, Picture
from shared.errors import InputError
from shared.recipe import did_you_mean

MOST_AT_ONCE = 4096
Source = str | os.PathLike[str]
OnProgress = Callable[[Event], None]


class Session:
    """A model that stays loaded: what it makes is what the functions `image`, `clip` and `asset` make, sooner.

    model: "world", a diffusers folder, a .safetensors file or a hub id. device: "auto", "cpu" or "cuda".

    >>> import kinoform
    >>> lab = kinoform.load("world", device="cpu")
    >>> pictures = lab.image(["a red cube", "a blue chair"], steps=4)
    >>> [picture.pixels.shape for picture in pictures]
    [(64, 64, 3), (64, 64, 3)]
    """

    def __init__(self, model: Source = "world", *, device: str = "auto", batch: int | None = None) -> None:
        if batch is not None and not 1 <= batch <= MOST_AT_ONCE:
            raise InputError("batch", expected=f"a whole number from 1 to {MOST_AT_ONCE}", got=batch)
        self.model = os.fspath(model)
        self._context = Context(device, batch)

    @overload
    def image(self, prompt: str, *, on_progress: OnProgress | None = None, **recipe: Any) -> Picture: ...
    @overload
    def image(
        self, prompt: Sequence[str], *, on_progress: OnProgress | None = None, **recipe: Any
    ) -> list[Picture]: ...
    def image(self, prompt: Any, *, on_progress: OnProgress | None = None, **recipe: Any) -> Any:
        """Pictures. See `kinoform.image`."""
        return self.make("image", prompt, on_progress=on_progress, **recipe)

    @overload
    def clip(self, prompt: str, *, on_progress: OnProgress | None = None, **recipe: Any) -> Clip: ...
    @overload
    def clip(self, prompt: Sequence[str], *, on_progress: OnProgress | None = None, **recipe: Any) -> list[Clip]: ...
    def clip(self, prompt: Any, *, on_progress: OnProgress | None = None, **recipe: Any) -> Any:
        """Clips. See `kinoform.clip`."""
        return self.make("clip", prompt, on_progress=on_progress, **recipe)

    @overload
    def asset(self, prompt: str, *, on_progress: OnProgress | None = None, **recipe: Any) -> Asset: ...
    @overload
    def asset(self, prompt: Sequence[str], *, on_progress: OnProgress | None = None, **recipe: Any) -> list[Asset]: ...
    def asset(self, prompt: Any, *, on_progress: OnProgress | None = None, **recipe: Any) -> Any:
        """Assets. See `kinoform.asset`."""
        return self.make("asset", prompt, on_progress=on_progress, **recipe)

    def make(self, kind_name: str, prompt: Any, *, on_progress: OnProgress | None = None, **recipe: Any) -> Any:
        """What a kind makes of a prompt, or a list of several's: "image", "clip", "asset", or a plug-in's kind.

        Raises InputError for an unknown kind; else as `kinoform.image`.
        """
        if kind_name not in kinds():
            hint = did_you_mean(kind_name, kinds())
            raise InputError("kind", expected=" or ".join(kinds()), got=kind_name, hint=hint)
        kind = kinds()[kind_name]
        alone = isinstance(prompt, str)
        prompts = [prompt] if alone else list(prompt) if isinstance(prompt, Iterable) else []
        if not prompts or not all(isinstance(text, str) for text in prompts):
            raise InputError("prompt", expected="a text, or texts", got=prompt)
        known = [name for name in (*kind.recipe.model_fields, "size", "preset") if name not in ("prompt", "model")]
        for name in recipe:
            if name not in known:
                hint = "A session has one: kinoform.load(model)" if name == "model" else did_you_mean(name, known)
                raise InputError(f"unknown key {name}", expected=", ".join(known), hint=hint)
        values = {"model": self.model, **given_values(kind.recipe, recipe, kind=kind.name)}
        jobs = [Job(kind.recipe.parse({**values, "prompt": text})) for text in prompts]
        made: dict[int, Any] = {}
        for event in run(jobs, self._context):
            if on_progress is not None:
                on_progress(event)
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Done):
                made[event.index] = event.result
        results = [made[index] for index in range(len(jobs))]
        return results[0] if alone else results


def load(model: Source = "world", *, device: str = "auto", batch: int | None = None) -> Session:
    """A session: the model is loaded at its first use and kept.

    model: as `--model` takes it. device: "auto" (a GPU where there is one), "cpu" or "cuda". batch: the most pictures
    that are sampled at once; what is fastest where None. On a CPU each is, bit for bit, what it would be alone.

    >>> import kinoform
    >>> lab = kinoform.load()
    >>> lab.image("a yellow duck", steps=4, seed=3).record.seed
    3
    """
    return Session(model, device=device, batch=batch)


@overload
def image(
    prompt: str, *, model: Source = ..., device: str = ..., on_progress: OnProgress | None = ..., **recipe: Any
) -> Picture: ...
@overload
def image(
    prompt: Sequence[str],
    *,
    model: Source = ...,
    device: str = ...,
    on_progress: OnProgress | None = ...,
    **recipe: Any,
) -> list[Picture]: ...
def image(
    prompt: Any, *, model: Source = "world", device: str = "auto", on_progress: OnProgress | None = None, **recipe: Any
) -> Any:
    """A picture of a prompt, or a list of pictures of several.

    recipe: what `kinoform image --help` lists, with underscores: seed, steps, guidance_scale, negative, width, height,
    size="64x64", preset="draft", ... on_progress: called with every event of the run (`kinoform.Stepped` and others).
    Raises InputError for a wrong value, naming what is right; ModelError for a model that cannot be loaded.

    >>> import kinoform
    >>> picture = kinoform.image("a red cube", seed=1, steps=4)
    >>> picture.pixels.dtype, picture.pixels.shape
    (dtype('uint8'), (64, 64, 3))
    >>> picture.save("cube.png").name
    'cube.png'
    """
    return cast(Any, Session(model, device=device).image)(prompt, on_progress=on_progress, **recipe)


@overload
def clip(
    prompt: str, *, model: Source = ..., device: str = ..., on_progress: OnProgress | None = ..., **recipe: Any
) -> Clip: ...
@overload
def clip(
    prompt: Sequence[str],
    *,
    model: Source = ...,
    device: str = ...,
    on_progress: OnProgress | None = ...,
    **recipe: Any,
) -> list[Clip]: ...
def clip(
    prompt: Any, *, model: Source = "world", device: str = "auto", on_progress: OnProgress | None = None, **recipe: Any
) -> Any:
    """A clip of a prompt, or a list of clips of several. recipe: what `kinoform clip --help` lists; else as `image`.

    >>> import kinoform
    >>> clip = kinoform.clip("a red ball moving left", frames=4, steps=4)
    >>> clip.frames.shape
    (4, 64, 64, 3)
    """
    return cast(Any, Session(model, device=device).clip)(prompt, on_progress=on_progress, **recipe)


@overload
def asset(
    prompt: str, *, model: Source = ..., device: str = ..., on_progress: OnProgress | None = ..., **recipe: Any
) -> Asset: ...
@overload
def asset(
    prompt: Sequence[str],
    *,
    model: Source = ...,
    device: str = ...,
    on_progress: OnProgress | None = ...,
    **recipe: Any,
) -> list[Asset]: ...
def asset(
    prompt: Any, *, model: Source = "world", device: str = "auto", on_progress: OnProgress | None = None, **recipe: Any
) -> Any:
    """A 3D asset of a prompt, or a list of several. recipe: what `kinoform asset --help` lists; else as `image`.

    >>> import kinoform
    >>> asset = kinoform.asset("a red cube", preset="draft", steps=20, mesh_resolution=32)
    >>> asset.mesh.is_watertight
    True
    >>> asset.turntable(frames=4, size=64).frames.shape
    (4, 64, 64, 3)
    """
    return cast(Any, Session(model, device=device).asset)(prompt, on_progress=on_progress, **recipe)
