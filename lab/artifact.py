"""What the generating commands share: a run loads a model, warns, and keeps the record, and latents, of what it did."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from lab import device
from lab.console import Console
from lab.vocabulary import unknown_words
from shared.errors import InputError, KinoformError
from shared.memory import NetworkMemory
from shared.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from shared.model import ImageModel
    from shared.run_record import RunRecord

M = TypeVar("M")

# Components of a model folder that have no part in what a command makes: they may change, and a rerun is the same.
UNUSED = {"clip": ("image_encoder",), "image": ("image_encoder", "temporal"), "asset": ("image_encoder", "temporal")}


@dataclass
class Run:
    """One run of a generating command.

    console: its voice. device: the user's choice, still unresolved. earlier: the record that `rerun` reproduces; the
    model must have the same weights then.
    """

    console: Console
    device: str = "auto"
    earlier: RunRecord | None = None
    unknown_words: list[str] = field(default_factory=list)

    def check(self, recipe: NetworkMemory) -> None:
        """Refuse what a CPU that was asked for cannot do, before torch is imported."""
        if self.device == "cpu":
            recipe.check_device(self.device)

    def load(self, loader: Callable[..., M], recipe: Any) -> M:
        """The model of the recipe: on the chosen device, unless it is offloaded; in the precision it will run in."""
        with self.console.timed("load"):
            from shared.memory_modes import compute_dtype, load_device

            memory, where = recipe.memory, device.pick(self.device)
            return loader(recipe.model, device=load_device(memory, where), dtype=compute_dtype(memory, where))

    def where(self) -> str:
        """The chosen device."""
        return device.pick(self.device)

    def record(
        self, command: str, recipe: Recipe, model: ImageModel, encoded: Sequence[str] | None = None
    ) -> RunRecord:
        """The run's record, after saying what the model will make of the prompt.

        encoded: the prompts that are encoded in place of the recipe's own.
        Raises InputError when the model's weights are not those of `earlier`.
        """
        from shared.run_record import RunRecord  # here: it brings numpy and the codecs, which --help has no use for

        values = recipe.resolved()
        prompts = values["prompt"], values["negative"]
        encoded = [values["prompt"]] if encoded is None else encoded
        self.unknown_words = unknown_words(self.console, model.text, *prompts)
        excess = max(model.text.excess_tokens(prompt) for prompt in (*encoded, values["negative"]))
        if excess:
            self.console.warn(f"the prompt is {excess} tokens too long for this model: its end is left out")
        hashes = {file: sha for file, sha in model.hashes().items() if file.split("/")[0] not in UNUSED[command]}
        record = RunRecord.of_run(command, values, values["seed"], model.name, hashes)
        if self.earlier is None:
            return record
        _check_same(self.console, self.earlier, record)
        # The weights are the same wherever they lie: under the earlier name the bytes are, too.
        named = {"model": self.earlier.model, "recipe": {**record.recipe, "model": self.earlier.recipe["model"]}}
        return record.model_copy(update=named)

    @contextmanager
    def latents_kept(self, output: str, latents: Tensor, record: RunRecord) -> Iterator[None]:
        """Keep latents in a file beside the output while they are decoded and written inside.

        If that fails the file stays, and the error says how to go on from it; else it goes, on Ctrl-C as well.
        """
        from shared.latents_file import latents_path, save_latents

        path = latents_path(output)
        save_latents(path, latents, record)
        try:
            yield
        except Exception as error:
            hint = f"What was sampled is kept: kinoform decode {shlex.quote(str(path))} -o {shlex.quote(output)}"
            if isinstance(error, KinoformError):
                error.hint = f"{error.hint.rstrip('.')}. {hint}" if error.hint else hint
                raise
            what = f"decoding failed: {type(error).__name__}: {error}"
            raise KinoformError(what, hint=hint) from error
        except BaseException:
            path.unlink()
            raise
        path.unlink()

    def finish(self, lines: list[str], record: RunRecord, outputs: list[Any], **fields: Any) -> None:
        """The result: where the outputs are, and what a program wants to know about them."""
        self.console.result(
            lines,
            outputs=outputs,
            seed=record.seed,
            model=record.model.name,
            unknown_words=self.unknown_words,
            **fields,
        )


def _check_same(console: Console, earlier: RunRecord, now: RunRecord) -> None:
    was, have = earlier.model.hashes, now.model.hashes
    changed = [name for name in sorted({*was, *have}) if was.get(name) != have.get(name)]
    if changed:
        raise InputError(
            f"model {now.model.name}",
            expected=f"the weights the file was made with ({changed[0]} {was.get(changed[0], 'absent')[:12]})",
            got=have.get(changed[0], "none")[:12],
            hint="Give the folder that holds those: --model FOLDER",
        )
    for what, then, today in (
        ("kinoform", earlier.kinoform_version, now.kinoform_version),
        ("platform", earlier.platform, now.platform),
        *((name, earlier.versions.get(name), version) for name, version in now.versions.items()),
    ):
        if then != today:
            console.warn(f"made with {what} {then}, this is {today}: the result may differ in rounding")
