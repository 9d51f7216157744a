"""What a training says of its data, and warns of: what is there, captions too long for a prompt, words not known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.show.console import Console

if TYPE_CHECKING:
    from shared.models.prompts.text import TextConditioner
    from shared.training.data.groups import DataFolder

NAMED = 8  # words that a warning names


def look(console: Console, data: Path, caption: str | None = None) -> DataFolder:
    """Says in a line what is below `data`. caption: of files that have none.

    Raises InputError where nothing should be trained on it.
    """
    from shared.training.data.groups import read_data
    from shared.training.data.survey import survey_line, survey_of

    found = read_data(data, caption=caption)
    console.say(f"{data}: {survey_line(survey_of(found))}")
    refusal = found.refusal()
    if refusal is not None:
        raise refusal
    return found


def captions_of(found: DataFolder) -> list[str]:
    return [entry["caption"] for group in found.groups for entry in group.entries]


def warn_of_length(console: Console, captions: Sequence[str], limit: int) -> None:
    """limit: tokens of a prompt. Captions are counted in words and marks; rare words may be several tokens."""
    from shared.models.prompts.vocabulary import pieces

    room = limit - 2  # the start and the end token
    lengths = [len(pieces(caption)) for caption in captions]
    cut = sum(length > room for length in lengths)
    if cut:
        console.warn(
            f"{cut} of {len(captions)} captions are longer than the {room} words that a prompt has room for (up to "
            f"{max(lengths)}). What is beyond is not learned"
        )


def warn_of_words(console: Console, captions: Sequence[str], text: TextConditioner) -> None:
    """For a stage that takes the text side as it is."""
    unknown = list(dict.fromkeys(word for caption in dict.fromkeys(captions) for word in text.unknown_words(caption)))
    if unknown:
        shown = ", ".join(map(repr, unknown[:NAMED])) + (f" and {len(unknown) - NAMED} more" * (len(unknown) > NAMED))
        console.warn(
            f"the model does not know words of the captions and leaves them out: {shown}. "
            "Train its image stage on these captions first: kinoform train image --preset image-continue"
        )
