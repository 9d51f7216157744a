"""Many prompts: a text file with one on each line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.errors import InputError

MAX_FILE_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class Asked:
    """One thing to make. negative, seed: None where the line leaves them to the recipe."""

    prompt: str
    negative: str | None = None
    seed: int | None = None


def read_prompts(path: str) -> list[Asked]:
    """The lines of a file: `prompt`, `prompt | negative` or `prompt | negative | seed`; blank lines and `#` comments
    are passed over. Raises InputError for no file, a line that cannot be read, or no prompt at all.
    """
    try:
        if Path(path).stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"--prompts {path}", expected=f"at most {MAX_FILE_BYTES} bytes", got="a larger file")
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError("--prompts", expected="a text file, a prompt a line", got=f"{path}: {reason}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path} line {line}", expected="text in UTF-8", got=f"byte 0x{data[error.start]:02x}",
            hint="Save the file as UTF-8: editors on Windows may write Windows-1252",
        ) from error  # fmt: skip
    asked = [
        _asked(f"{path} line {number}", line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not asked:
        raise InputError(f"--prompts {path}", expected="at least one prompt", got="none")
    return asked


def _asked(where: str, line: str) -> Asked:
    parts = [part.strip() for part in line.split("|")]
    if len(parts) > 3:
        raise InputError(where, expected="prompt | negative | seed", got=line)
    prompt, negative, seed = (parts + ["", ""])[:3]
    if not prompt:
        raise InputError(where, expected="a prompt", got=line)
    if seed and not (seed.isascii() and seed.isdigit()):
        raise InputError(where, expected="a seed, a whole number of at least 0", got=seed)
    return Asked(prompt, negative or None, int(seed) if seed else None)
