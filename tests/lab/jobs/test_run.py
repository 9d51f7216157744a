"""Jobs, run: what is told and in which order, what is sampled together, what a failure costs."""

import shlex
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dreamfusion.recipe import AssetRecipe
from lab.jobs.events import Done, Failed, Stepped, Timed, Warned
from lab.jobs.run import Context, Job, groups, run
from lab.kinds import Output, kinds
from lab.kinds.image import ImageKind
from shared.artifacts.latents_file import load_latents
from shared.artifacts.run_record import read_record
from shared.errors import InputError, KinoformError, ModelError
from shared.images.recipe import ImageRecipe
from video.recipe import ClipRecipe

STEPS = 1  # of which it is said that they are few
SMALL = {"steps": STEPS, "width": 32, "height": 32}
PROMPTS = ("a red cube", "a blue ball next to a cone", "a duck", "a car")


@pytest.fixture(scope="module")
def context():
    return Context("cpu", batch=3)


@pytest.fixture
def jobs(model, tmp_path):
    """Three pictures, each in a folder of its own."""
    return [image(model, number, tmp_path / name / "a.png", steps=2) for number, name in enumerate("xyz")]


def image(model, number=0, path=None, **changes):
    values = {**SMALL, "prompt": PROMPTS[number], "seed": number, "model": str(model), **changes}
    return Job(ImageRecipe.parse(values), Output(None if path is None else str(path)))


def clip(model, number=0, **changes):
    values = {**SMALL, "prompt": PROMPTS[number], "seed": number, "frames": 3, "model": str(model), **changes}
    return Job(ClipRecipe.parse(values))


def ended(events):
    return [event for event in events if isinstance(event, (Done, Failed))]


def pixels(events):
    """What each job has made, in the order of the jobs."""
    done = {event.index: event.result for event in ended(events) if isinstance(event, Done)}
    return [getattr(done[index], "pixels", getattr(done[index], "frames", None)) for index in sorted(done)]


def files(folder):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir())


def brief(event):
    if isinstance(event, Timed):
        assert event.seconds > 0
        return event.stage
    if isinstance(event, Stepped):
        return f"{event.stage} {event.step}/{event.total}", event.jobs
    return type(event).__name__, event.index


def test_events_come_in_order(jobs):
    told = [brief(event) for event in run(jobs, Context("cpu", batch=2)) if not isinstance(event, Warned)]

    def batch(*numbers):
        steps = [(f"sample {step}/2", numbers) for step in (1, 2)]
        each = [told for number in numbers for told in ("decode", "write", ("Done", number))]
        return ["load", *steps, "sample", *each]

    assert told == [*batch(0, 1), *batch(2)]


def test_done_names_the_files_the_words_and_the_result(jobs, context, tmp_path):
    other = image(jobs[0].recipe.model, 0, tmp_path / "w.png", prompt="a red dragon on a pouf")
    for event, job in zip(ended(run([*jobs, other], context)), [*jobs, other], strict=True):
        assert [str(path) for path in event.outputs] == [job.output.path]
        assert read_record(job.output.path) == event.result.record
        assert event.result.record.recipe == job.recipe.resolved()
        assert event.unknown_words == (("dragon", "pouf") if job is other else ())


def test_an_asset_tells_its_loss_and_writes_both_files(model, context, tmp_path):
    small = {"samples": 16, "coarse_render_size": 8, "render_size": 16, "field_resolution": 12, "mesh_resolution": 24,
             "turntable_frames": 2, "turntable_size": 32}  # fmt: skip
    recipe = AssetRecipe(prompt="a red cube", model=str(model), steps=2, **small)
    paths = tmp_path / "a.ply", tmp_path / "a.gif"
    events = list(run([Job(recipe, Output(*map(str, paths)))], context))
    assert [(event.step, event.total) for event in events if isinstance(event, Stepped)] == [(1, 2), (2, 2)]
    assert all(event.gradient_rms > 0 for event in events if isinstance(event, Stepped))
    assert events[-1].outputs == paths
    stages = [event.stage for event in events if isinstance(event, Timed)]
    assert stages == ["load", "distill", "mesh", "write", "turntable"]


def test_a_thing_to_say_is_said_once(model, context):
    recipes = {"steps": 1, "prompt": "a red dragon"}
    events = list(run([image(model, 0, **recipes), image(model, 1, **recipes), clip(model, 0, **recipes)], context))
    said = [event.text for event in events if isinstance(event, Warned)]
    assert [text.split(" ")[0:2] for text in said] == [["steps", "1:"], ["this", "model"]]
    assert isinstance(events[0], Warned)  # before any work
    assert [event.unknown_words for event in ended(events)] == [("dragon",)] * 3


# One other value for everything that a recipe has.
OTHER = {
    "precision": "bf16", "offload": "model", "channels_last": True, "compile": True, "decode": "tiled",
    "decode_frames": 1, "model": "world", "width": 72, "height": 72, "steps": 5, "guidance": "another's",
    "guidance_scale": 2, "guidance_rescale": 0.1, "guidance_start": 0.2, "guidance_stop": 0.5, "image": "a.png",
    "temporal_guidance_scale": 3.0,
    "last": "b.png", "frames": 4, "window": 3, "fps": 12, "negative": "grey", "pipeline_class": "Other",
    "prompt": "a duck", "seed": 7, "lora": ("a.safetensors",), "embeddings": ("b.safetensors",), "scheduler": "ddim",
    "strength": 0.5, "mask": "c.png", "extend": "left=8", "vae": "d.safetensors", "unet": "e.safetensors",
    "transformer": "g.safetensors", "transformer_2": "i.safetensors",
    "depth": "j.png", "noise_level": 300, "clip_guidance": 9.0, "scorer": "clip", "clip_model": "h.safetensors",
    "motion_adapter": "f.safetensors", "quantization": "int8",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["image", "clip"])
def test_only_what_differs_in_no_more_than_its_own_is_sampled_together(kind):
    make, own = {"image": (image, {"prompt", "seed"}), "clip": (clip, {"prompt", "seed", "negative", "fps"})}[kind]
    for name in kinds()[kind].recipe.model_fields:
        changed = replace(make("m"), recipe=make("m").recipe.model_copy(update={name: OTHER[name]}))
        expected = [[0, 1]] if name in own else [[0], [1]]
        assert list(groups([make("m"), changed], 4, "cpu")) == expected, name


def test_groups_are_of_neighbours_and_no_larger_than_asked():
    a, b = image("m", 0), image("m", 1, steps=9)
    kept = Job(a.recipe, latents="a.latents.safetensors")
    assert list(groups([a, b, a], 4, "cpu")) == [[0], [1], [2]]
    assert list(groups([a] * 5, 2, "cpu")) == [[0, 1], [2, 3], [4]]
    assert list(groups([a] * 9, None, "cpu")) == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    assert list(groups([a] * 9, None, "cuda")) == [[0, 1, 2, 3, 4, 5, 6, 7], [8]]
    assert list(groups([clip("m")] * 2, None, "cpu")) == [[0], [1]]
    assert list(groups([clip("m")] * 3, 2, "cpu")) == [[0, 1], [2]]
    assert list(groups([a, clip("m"), a], 4, "cpu")) == [[0], [1], [2]]
    assert list(groups([a, kept, kept, a], 4, "cpu")) == [[0], [1], [2], [3]]
    assert list(groups([], 4, "cpu")) == []


class Remembers(ImageKind):
    """Keeps what pixels are made of: eight bits hide much."""

    def __init__(self):
        self.latents_by_seed = {}

    def finish(self, model, recipe, last, *rest):
        self.latents_by_seed[recipe.seed] = last
        return super().finish(model, recipe, last, *rest)


def remembered(jobs, batch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(kinds(), "image", Remembers())
        made = pixels(run(jobs, Context("cpu", batch=batch)))
        found = kinds()["image"].latents_by_seed
    return made, [found[job.recipe.seed] for job in jobs]


@pytest.fixture(scope="module", params=[5.0, 1.0], ids=["guided", "not guided"])
def world(request):
    """Pictures of the embedded model, each made by itself; with guidance even those are sampled as two."""
    jobs = [image("world", number, width=64, height=64, guidance_scale=request.param) for number in range(4)]
    return jobs, *remembered(jobs, 1)


@pytest.mark.parametrize("order", [(3, 1, 0), (2, 3, 0, 1)], ids=str)
def test_the_embedded_model_s_pictures_are_the_same_bit_for_bit_in_any_batch(world, order):
    jobs, alone, latents_alone = world
    together, latents = remembered([jobs[number] for number in order], 4)
    for position, number in enumerate(order):
        assert torch.equal(latents[position], latents_alone[number])
        np.testing.assert_array_equal(together[position], alone[number])
    assert not np.array_equal(together[0], together[1])


@pytest.mark.parametrize("changes", [{}, {"guidance_scale": 1, "frames": 1}], ids=str)
def test_clips_in_a_batch_are_those_made_alone(model, context, changes):
    asked = [clip(model, 0, negative="a cube", fps=9, **changes), clip(model, 1, fps=5, **changes)]
    together = list(run(asked, context))
    assert {event.jobs for event in together if isinstance(event, Stepped)} == {(0, 1)}
    for job, made, event in zip(asked, pixels(together), ended(together), strict=True):
        np.testing.assert_array_equal(made, pixels(run([job], context))[0])
        assert event.result.fps == job.recipe.fps


def test_a_wrong_job_is_refused_before_anything_is_made(jobs, tmp_path):
    context = Context("cpu")
    for wrong, error in (
        (image(jobs[0].recipe.model, 0, tmp_path / "a.xyz"), InputError),
        (image(jobs[0].recipe.model, 0, width=30), InputError),
        (image(tmp_path / "none"), ModelError),
    ):
        with pytest.raises(error):
            next(run([*jobs, wrong], context))
    assert files(tmp_path) == []
    assert context.models._model is None


def test_a_place_that_is_lost_on_the_way_costs_one_job(jobs, context, tmp_path):
    events = []
    for event in run(jobs, context):
        if isinstance(event, Stepped) and event.step == 2:
            (tmp_path / "y").write_text("a file where the folder should be")
        events.append(event)
    assert [(type(event), event.index) for event in ended(events)] == [(Done, 0), (Failed, 1), (Done, 2)]
    assert "folders all the way" in str(ended(events)[1].error)
    assert files(tmp_path) == ["x/a.png", "y", "z/a.png"]


class FailsToFinish(ImageKind):
    """Cannot decode what was sampled with one seed."""

    def __init__(self, error, seed=1):
        self.error, self.seed = error, seed

    def finish(self, model, recipe, *rest):
        if recipe.seed == self.seed:
            raise self.error
        return super().finish(model, recipe, *rest)


@pytest.mark.parametrize(
    ("error", "begin"),
    [
        (RuntimeError("the device is gone"), "decoding failed: RuntimeError: the device is gone. What was sampled"),
        (KinoformError("no memory", hint="Use --decode tiled."), "no memory. Use --decode tiled. What was sampled"),
        (KinoformError("no memory"), "no memory. What was sampled"),
    ],
)
def test_what_was_sampled_is_kept_where_it_cannot_be_decoded(jobs, context, tmp_path, monkeypatch, error, begin):
    with monkeypatch.context() as broken:
        broken.setitem(kinds(), "image", FailsToFinish(error))
        ends = ended(run(jobs, context))
    assert [(type(event), event.index) for event in ends] == [(Done, 0), (Failed, 1), (Done, 2)]
    assert files(tmp_path) == ["x/a.png", "y/a.png.latents.safetensors", "z/a.png"]
    line = str(ends[1].error)
    assert line.startswith(begin), line
    command = shlex.split(line.partition("is kept: ")[2])
    output = jobs[1].output.path
    assert command == ["kinoform", "decode", f"{output}.latents.safetensors", "-o", output]
    # It is the very tensor that decodes to what the job would have made.
    kept = Job(jobs[1].recipe, jobs[1].output, latents=command[2])
    (again,) = ended(run([kept], context))
    np.testing.assert_array_equal(again.result.pixels, pixels(run([replace(jobs[1], output=Output())], context))[0])
    assert load_latents(command[2]).shape == (1, 4, 8, 8)  # still there: it is the user's


def test_a_decode_to_nowhere_keeps_nothing(model, context, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(kinds(), "image", FailsToFinish(RuntimeError("gone"), seed=0))
    (event,) = ended(run([image(model, 0)], context))
    assert str(event.error) == "gone"
    assert files(tmp_path) == []


class NoRoom(ImageKind):
    """Has memory for one at a time, and none for one seed."""

    def __init__(self, never):
        self.never = never

    def sample(self, model, recipes, device):
        for state in super().sample(model, recipes, device):
            yield state
            if len(recipes) > 1 or recipes[0].seed == self.never:
                raise MemoryError


@pytest.mark.parametrize("never", [None, 1])
def test_a_batch_that_fails_is_made_one_by_one(jobs, context, tmp_path, monkeypatch, never):
    expected = [pixels(run([job], context))[0] for job in jobs]
    with monkeypatch.context() as small:
        small.setitem(kinds(), "image", NoRoom(never))
        events = list(run(jobs, context))
    assert list(dict.fromkeys(event.jobs for event in events if isinstance(event, Stepped))) == [
        (0, 1, 2), (0,), (1,), (2,),
    ]  # fmt: skip
    assert [event.index for event in ended(events)] == [0, 1, 2]
    failed = [event for event in ended(events) if isinstance(event, Failed)]
    assert [(event.index, type(event.error)) for event in failed] == ([] if never is None else [(1, MemoryError)])
    expected = [made for number, made in enumerate(expected) if number != never]
    for made, right in zip(pixels(events), expected, strict=True):
        np.testing.assert_array_equal(made, right)


def test_a_record_of_other_weights_is_no_matter_of_its_neighbours(jobs, context, model, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(model, other)
    weights = next((other / "vae").glob("*.safetensors"))
    save_file({name: tensor * 0.5 for name, tensor in load_file(weights).items()}, weights)
    (made,) = ended(run([image(other, 1)], Context("cpu")))
    jobs[1] = Job(jobs[1].recipe, jobs[1].output, earlier=made.result.record)
    ends = ended(run(jobs, context))
    assert [(type(event), event.index) for event in ends] == [(Done, 0), (Failed, 1), (Done, 2)]
    assert "the weights the file was made with (vae/" in str(ends[1].error)


def test_a_model_that_cannot_be_loaded_fails_its_own_jobs_only(jobs, context, model, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    weights = next((broken / "vae").glob("*.safetensors"))
    tensors = load_file(weights)
    tensors[min(tensors)].view(-1)[0] = torch.nan
    save_file(tensors, weights)
    asked = [jobs[0], image(broken, 1), image(broken, 2), jobs[2]]
    ends = ended(run(asked, context))
    assert [(type(event), event.index) for event in ends] == [(Done, 0), (Failed, 1), (Failed, 2), (Done, 3)]
    assert isinstance(ends[1].error, ModelError)


@pytest.mark.parametrize(("until", "left"), [(Stepped, []), (Done, ["x/a.png"])])
def test_a_run_that_is_closed_leaves_whole_files_only(jobs, context, tmp_path, until, left):
    events = run(jobs, context)
    for event in events:
        if isinstance(event, until):
            break
    events.close()
    assert files(tmp_path) == left
    assert list(events) == []


def test_an_interrupt_while_decoding_ends_the_run_and_leaves_nothing(jobs, context, tmp_path, monkeypatch):
    monkeypatch.setitem(kinds(), "image", FailsToFinish(KeyboardInterrupt()))
    told = []
    with pytest.raises(KeyboardInterrupt):
        told.extend(run(jobs, context))
    assert files(tmp_path) == ["x/a.png"]
