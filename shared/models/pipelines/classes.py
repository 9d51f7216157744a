"""Who runs a model folder: our own core, or the diffusers pipeline class that its index names. Imports no torch.

A pipeline class is one of the installed diffusers. Code that comes with a model is refused here, before anything is
imported for it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from shared.errors import ModelError
from shared.models.pipelines.keys import FRAMES
from shared.models.pipelines.source import call_of
from shared.models.weight_files import check_plain, read_header, read_json, weight_files

# Those of CORE whose UNet sees something of a picture beside its latents (`shared.models.beside`).
DEPTH, SMALL = "depth", "a small picture"
SEES = {"StableDiffusionDepth2ImgPipeline": DEPTH, "StableDiffusionUpscalePipeline": SMALL}
# Classes whose parts our own core takes: a UNet2DConditionModel, an autoencoder and one or two CLIP text encoders.
CORE = frozenset(
    {
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionXLPipeline",
        "VideoLDMPipeline",
        *SEES,
    }
)
# Classes of which score distillation has the gradient (`shared.models.pipelines.prior`).
DISTILLED = frozenset(
    {"StableDiffusion3Pipeline", "FluxPipeline", "PixArtAlphaPipeline", "PixArtSigmaPipeline", "IFPipeline"}
)
CLASS, TEMPORAL = "_class_name", "temporal"


def pipeline_of(index: Mapping[str, Any], asked: str | None = None) -> str | None:
    """The diffusers class that runs the model of a model_index.json; None where our own core does.

    asked: a class to run it with in place of the one that it names. Raises ModelError for a class of the model's own.
    """
    named = index.get(CLASS)
    if isinstance(named, list):
        raise ModelError(
            f"pipeline class {'.'.join(map(str, named))}",
            expected="a class of diffusers",
            got="code that comes with the model, which never runs",
            hint="Name one of diffusers' that takes its parts: --pipeline-class NAME",
        )
    if asked is not None:
        return asked
    return named if isinstance(named, str) and named not in CORE and TEMPORAL not in index else None


def unusable(path: Path, class_name: str, wanted: Collection[str]) -> ModelError:
    """What to say of a class where our own core or one of `wanted` is needed."""
    others = f", or a {', '.join(sorted(wanted))}" if wanted else ""
    return ModelError(
        f"model {path}", expected=f"one that Kinoform's own core runs{others}", got=f"a {class_name}",
        hint="It makes pictures or clips by its own pipeline; its gradient cannot be reached here",
    )  # fmt: skip


def sees_more(path: Path, sees: str) -> ModelError:
    """What to say of a model whose UNet `sees` more than latents where that cannot be given."""
    return ModelError(
        f"model {path}", expected="one whose UNet sees latents alone", got=f"one that sees {sees} beside them",
        hint="It makes pictures: kinoform image",
    )  # fmt: skip


def makes(class_name: str) -> str | None:
    """The kind of what a class of the installed diffusers makes, "image" or "clip"; None for one that is not there."""
    call = call_of(class_name)
    return None if call is None else "clip" if call.keys() & {*FRAMES} else "image"


def components(index: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(name, library, class) of each part that a model_index.json names and has, temporal layers of ours aside."""
    for name, entry in index.items():
        if (
            name != TEMPORAL
            and isinstance(entry, list)
            and len(entry) == 2
            and all(isinstance(part, str) for part in entry)
        ):
            yield name, *entry


def check_components(folder: Path, index: Mapping[str, Any], replaced: Collection[str] = ()) -> None:
    """Refuse a folder of a pipeline class that could not be loaded, reading headers alone.

    replaced: parts whose weights are taken from elsewhere, and which need none here.
    Raises ModelError for a part whose folder is missing, whose weights are pickled, cut short, damaged or quantised by
    what is not read, or whose class is neither diffusers' nor transformers'.
    """
    for name, library, class_name in components(index):
        if not is_known(library):
            raise ModelError(
                f"{name} of model {folder}",
                expected="a class of diffusers or transformers",
                got=f"{library}.{class_name}, code that comes with the model and never runs",
            )
        if not (folder / name).is_dir():
            raise ModelError(f"model {folder}", expected=f"a subfolder {name}", got="none in it")
        if has_weights(folder / name, class_name):
            config = read_json(folder / name / "config.json")
            if name not in replaced:
                check_plain(config, folder / name, but="torchao" if library == "diffusers" else None)
                for file in weight_files(folder / name):
                    read_header(file)


def has_weights(folder: Path, class_name: str) -> bool:
    """Whether a part is a network: it has a configuration, which tokenizers, processors and schedulers call another."""
    other = ("Tokenizer", "TokenizerFast", "Processor", "ProcessorFast", "Scheduler", "FeatureExtractor")
    return not class_name.endswith(other) and (folder / "config.json").is_file()


def is_known(library: str) -> bool:
    """Whether an index's library is diffusers, transformers, or a folder of diffusers' pipelines."""
    if library in ("diffusers", "transformers"):
        return True
    found = importlib.util.find_spec("diffusers")  # finds the package without importing it
    places = [] if found is None else list(found.submodule_search_locations or ())
    pipelines = [Path(place) / "pipelines" for place in places]
    return library.isidentifier() and any(
        (root / library).is_dir() for root in [*pipelines, *(p / "deprecated" for p in pipelines)]
    )
