"""What a training of temporal layers sees in a step: clips, or parts of them, and stills for the image network.

Everything is drawn from (seed, step).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from shared.errors import InputError
from shared.latents.codec import Codec
from shared.models.prompts.text import TextConditioner
from shared.rng import generator
from shared.training.data.arrays import find_folders, load_latents, load_media
from shared.training.image import ImageBatches, LatentFolder
from shared.training.recipe import ImageTrainRecipe
from shared.view_words import view_prompts, view_word
from video.frames import known
from video.frames.windows import even_moments
from video.recipe import VideoTrainRecipe


class Batch(NamedTuple):
    """tokens: of some samples those of the empty prompt, for classifier-free guidance. moments: when in their clips the
    frames are, from 0 to 1, the same for all samples; None: these are whole clips. given: the frames that the network
    is shown; None: of no clip any. camera, frame_text: of frames that are views, with the tokens of each.
    """

    latents: Float[Tensor, "b c t h w"]
    tokens: Float[Tensor, "b n d"]
    moments: Float[Tensor, " t"] | None = None
    given: Bool[Tensor, "b t"] | None = None
    camera: Float[Tensor, "b t 2"] | None = None
    frame_text: Float[Tensor, "b t n d"] | None = None


class StillBatch(NamedTuple):
    """Pictures, and tokens as in `Batch`."""

    latents: Float[Tensor, "b c h w"]
    tokens: Float[Tensor, "b n d"]


class ClipBatches:
    """number -> batch of random clips with their captions' tokens. Every distinct caption is encoded once.

    latents: scaled, of one folder of clips after the other, any float dtype, with t = `recipe.clip_frames`.
    captions: of all their clips. device: where latents and tokens are wanted. starts: of each folder, whether its clips
    are only seen with their first frame given, where the recipe gives any; none is, where not said.
    """

    def __init__(
        self,
        latents: Sequence[Float[Tensor, "_ t c h w"]],
        captions: list[str],
        text: TextConditioner,
        recipe: VideoTrainRecipe,
        device: str = "cpu",
        starts: Sequence[bool] = (),
    ) -> None:
        self.latents = latents
        self.device = device
        self.known_shares = [1.0 if start else recipe.known_share for start in starts or [False] * len(latents)]
        self.places = [(folder, clip) for folder, part in enumerate(latents) for clip in range(len(part))]
        self.recipe = recipe
        distinct = sorted({"", *captions})
        self.tokens = encode_captions(text, distinct)
        index = {caption: i for i, caption in enumerate(distinct)}
        self.empty = index[""]
        self.caption = torch.tensor([index[caption] for caption in captions])

    def __call__(self, step: int) -> Batch:
        draw = generator(self.recipe.seed, step, 1)
        chosen = torch.randint(len(self.places), (self.recipe.batch_size,), generator=draw)
        dropped = torch.rand(len(chosen), generator=draw) < self.recipe.caption_dropout
        caption = self.caption[chosen].masked_fill(dropped, self.empty)
        frames = drawn_frames(self.recipe, draw)
        places = [self.places[i] for i in chosen.tolist()]
        latents = torch.stack([self.latents[folder][clip, frames] for folder, clip in places])
        latents = latents.to(self.device).float().transpose(1, 2)
        given = None
        if self.recipe.known_share:
            shares = [self.known_shares[folder] for folder, _ in places]
            given = known.drawn(shares, len(frames), draw).to(self.device)
        tokens = self.tokens[caption.to(self.device)].float()
        return Batch(latents, tokens, even_moments(self.recipe.clip_frames)[frames], given)


VIEWS = (4, 8)  # of one thing, that a step sees


class ViewBatches:
    """number -> batch of views of things that stand still, evenly spaced all around, with captions and cameras, and of
    each view the caption with words for where that is; as many pictures as a batch of clips has.

    folders: of views, with latents. device: where latents and tokens are wanted.
    """

    def __init__(
        self, folders: Sequence[LatentFolder], text: TextConditioner, recipe: VideoTrainRecipe, device: str = "cpu"
    ) -> None:
        self.folders = folders
        self.recipe = recipe
        self.device = device
        self.text = text

    @torch.no_grad()
    def __call__(self, number: int) -> Batch:
        draw = generator(self.recipe.seed, number, 3)
        count = VIEWS[int(torch.randint(len(VIEWS), (), generator=draw))]
        things = max(1, self.recipe.batch_size * self.recipe.frames // count)
        latents, captions, cameras = [], [], []
        for u, v, w, dropped in torch.rand(things, 4, generator=draw, dtype=torch.float64).tolist():
            media, encoded = self.folders[int(u * len(self.folders))]
            thing = int(v * len(encoded))
            around = media.frames
            views = (int(w * around) + torch.arange(count) * around // count) % around
            assert media.cameras is not None
            latents.append(encoded[thing, views])
            cameras.append(media.cameras[thing, views])
            captions.append("" if dropped < self.recipe.caption_dropout else media.captions[thing])
        given = None
        if self.recipe.known_share:
            given = known.drawn([self.recipe.known_share] * things, count, draw).to(self.device)
        camera = torch.stack(cameras)
        seen = [
            view_prompts(caption)[view_word(*view)] if caption else ""
            for caption, around in zip(captions, camera.tolist(), strict=True)
            for view in around
        ]
        return Batch(
            torch.stack(latents).to(self.device).float().transpose(1, 2),
            self.text.encode(captions).to(self.device),
            given=given,
            camera=camera.to(self.device),
            frame_text=self.text.encode(seen).to(self.device).unflatten(0, camera.shape[:2]),
        )


class MixedBatches:
    """number -> views in `recipe.views_share` of the batches, clips in the others."""

    def __init__(self, clips: Callable[[int], Batch], views: Callable[[int], Batch], recipe: VideoTrainRecipe) -> None:
        self.clips = clips
        self.views = views
        self.recipe = recipe

    def __call__(self, number: int) -> Batch:
        u = float(torch.rand((), generator=generator(self.recipe.seed, number, 4), dtype=torch.float64))
        return (self.views if u < self.recipe.views_share else self.clips)(number)


def drawn_frames(recipe: VideoTrainRecipe, draw: torch.Generator) -> Int[Tensor, " t"]:
    """Which frames of a clip of `recipe.clip_frames` a step sees: evenly spread over all of it, or, in `part_share` of
    the steps, closer together (any whole spacing below `fineness`), from anywhere on.
    """
    u, v, w = torch.rand(3, generator=draw, dtype=torch.float64).tolist()
    spacing = recipe.fineness
    if u < recipe.part_share and spacing > 1:
        spacing = 1 + int(v * (spacing - 1))
    room = recipe.clip_frames - 1 - spacing * (recipe.frames - 1)
    return int(w * (room + 1)) + spacing * torch.arange(recipe.frames)


@torch.no_grad()
def encode_captions(text: TextConditioner, captions: list[str], batch: int = 64) -> Float[Tensor, "m n d"]:
    """Tokens of every caption, in half precision: there may be thousands."""
    return torch.cat([text.encode(captions[i : i + batch]).half() for i in range(0, len(captions), batch)])


class StillBatches:
    """number -> `recipe.stills` pictures, single frames of clips among them, as the image stage draws them."""

    def __init__(
        self, folders: list[LatentFolder], text: TextConditioner, recipe: VideoTrainRecipe, device: str = "cpu"
    ) -> None:
        settings = {"seed": recipe.seed, "batch_size": recipe.stills, "caption_dropout": recipe.caption_dropout}
        self.text = text
        self.batches = ImageBatches(folders, text, ImageTrainRecipe.parse(settings), device)

    @torch.no_grad()
    def __call__(self, step: int) -> StillBatch:
        latents, ids = self.batches(step)
        return StillBatch(latents, self.text.text_encoder(ids).last_hidden_state)


def read_folders(
    data: Path,
    codec: Codec,
    *,
    size: int,
    frames: int,
    repeat: bool = True,
    caption: str | None = None,
    stills: bool = False,
    views: bool = False,
    starts: bool = False,
) -> list[LatentFolder]:
    """The clips below `data` with their latents; with `stills` the pictures, with `views` the views, and with `starts`
    the clips whose first frames are to be given, too. caption: of what has none.

    Clips are decoded, resampled to `frames`, cropped to `size` and encoded once; the results are cached beside them.
    Raises InputError when there is no clip, and without `repeat` for one that has fewer frames.
    """
    groups = find_folders(data, caption=caption)
    if not any(group.kind == "clip" for group in groups):
        raise InputError("training data", expected=f"clips below {data}", got="none")
    kinds = {"clip": True, "picture": stills, "view": views, "start": starts}
    wanted = [group for group in groups if kinds[group.kind]]
    media = [load_media(group, size=size, frames=frames, repeat=repeat) for group in wanted]
    return [(folder, load_latents(folder, codec)) for folder in media]


def clips_of(folders: list[LatentFolder]) -> list[LatentFolder]:
    return [(media, latents) for media, latents in folders if media.frames > 1 and media.cameras is None]


def batches_of(
    folders: list[LatentFolder], text: TextConditioner, recipe: VideoTrainRecipe, device: str
) -> ClipBatches | MixedBatches:
    """Clips, and views among them where the recipe wants and the data has any."""
    media_of, latents_of = zip(*clips_of(folders), strict=True)
    captions = [caption for media in media_of for caption in media.captions]
    clips = ClipBatches(latents_of, captions, text, recipe, device, [media.starts for media in media_of])
    views = [(media, latents) for media, latents in folders if media.cameras is not None]
    if not recipe.views_share or not views:
        return clips
    return MixedBatches(clips, ViewBatches(views, text, recipe, device), recipe)
