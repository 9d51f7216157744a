"""The record of a job, and what is to be said when one from before is made again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.flags import flag_of
from lab.kinds import Kind
from lab.kinds.pipelines import runs_by_pipeline
from shared.errors import InputError
from shared.recipe import Recipe

if TYPE_CHECKING:
    from shared.artifacts.run_record import RunRecord
    from shared.models.image_model import ImageModel
    from shared.models.pipelines.load import PipelineModel


NO_NAMES: Mapping[str, str] = {}


def used_hashes(
    kind: Kind,
    model: Path | None,
    hashes: Mapping[str, str],
    brings: Sequence[str] = (),
    uses: Sequence[str] = (),
) -> dict[str, str]:
    """Of a model's files, by their paths in its folder `model`, those that have a part in what a kind makes: of a
    pipeline of diffusers all. brings: components whose place a recipe's own files take. uses: those that have a part in
    what it makes alone.
    """
    without = () if runs_by_pipeline(model) else tuple(part for part in kind.unused if part not in uses)
    unused = (*without, *brings)
    return {file: sha for file, sha in hashes.items() if file.split("/")[0] not in unused}


def parts_of(recipe: Recipe) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`brings` and `uses` of a recipe of any kind."""
    return getattr(recipe, "brings", ()), getattr(recipe, "uses", ())


def record_of(
    kind: Kind,
    recipe: Recipe,
    model: ImageModel | PipelineModel,
    earlier: RunRecord | None,
    files: Mapping[str, str],
    names: Mapping[str, str] = NO_NAMES,
) -> RunRecord:
    """What made a result. earlier: the record that is made again; its names of the model and of files are kept.
    files: that are read, by the recipe's keys. names: what they are to be called, where not by their paths.

    Raises InputError when the model's weights, or what the recipe's files hold, are not those of `earlier`.
    """
    from shared.artifacts.files import sha256
    from shared.artifacts.run_record import RunRecord

    values = {**recipe.resolved(), **names}
    hashes = used_hashes(kind, model.path, model.hashes(), *parts_of(recipe))
    inputs = {key: sha256(Path(path)) for key, path in files.items()}
    record = RunRecord.of_run(kind.name, values, values["seed"], model.name, hashes, inputs, model.unused(recipe))
    if earlier is None:
        return record
    was, have = earlier.model.hashes, record.model.hashes
    changed = [name for name in sorted({*was, *have}) if was.get(name) != have.get(name)]
    if changed:
        raise InputError(
            f"model {record.model.name}",
            expected=f"the weights the file was made with ({changed[0]} {was.get(changed[0], 'absent')[:12]})",
            got=have.get(changed[0], "none")[:12],
            hint="Give the folder that holds those: --model FOLDER",
        )
    for key, was_sha in earlier.inputs.items():
        if key in inputs and inputs[key] != was_sha:
            raise InputError(
                f"{key} {files[key]}",
                expected=f"the file it was made with ({was_sha[:12]})",
                got=inputs[key][:12],
                hint=f"Say where that is: {flag_of(key)} FILE",
            )
    # The weights and files are the same wherever they lie: under the earlier names the bytes are, too.
    names = {key: earlier.recipe[key] for key in ("model", *(key.partition(".")[0] for key in earlier.inputs))}
    named = {"model": earlier.model, "recipe": {**record.recipe, **names}, "inputs": earlier.inputs}
    return record.model_copy(update=named)


def differences(earlier: RunRecord, now: RunRecord) -> list[str]:
    """What is not as it was and may change a result's last bits, a line each."""
    pairs = [
        ("kinoform", earlier.kinoform_version, now.kinoform_version),
        ("platform", earlier.platform, now.platform),
        *((name, earlier.versions.get(name), version) for name, version in now.versions.items()),
    ]
    return [
        f"made with {what} {then}, this is {today}: the result may differ in rounding"
        for what, then, today in pairs
        if then not in (None, today)
    ]
