import json

import numpy as np
import pytest

from lab.jobs.best import candidates, run_best
from lab.jobs.events import Done, Failed, Stepped
from lab.jobs.run import Context, Job, run
from lab.kinds import Output
from lab.main import main
from shared.artifacts.media import read_image
from shared.artifacts.run_record import read_record
from shared.images.recipe import ImageRecipe


class Brightest:
    """Likes light pictures."""

    def score(self, frames, prompt):
        return float(np.asarray(frames).mean())


@pytest.fixture(scope="module")
def context():
    return Context("cpu")


def image(model, seed=0, path=None, **values):
    recipe = ImageRecipe.parse({"prompt": "a red cube", "model": str(model), "steps": 2, "seed": seed, **values})
    return Job(recipe, Output(None if path is None else str(path)))


def test_the_one_that_scores_best_is_kept_as_its_own_seed_makes_it(model, context, tmp_path):
    jobs = [image(model, 0, tmp_path / "a.png"), image(model, 10, tmp_path / "b.png")]
    events = list(run_best(jobs, context, count=3, scorer=Brightest()))
    ended = [event for event in events if isinstance(event, Done)]
    assert [event.index for event in ended] == [0, 1]
    assert {index for event in events if isinstance(event, Stepped) for index in event.jobs} == {0, 1}
    for job, done in zip(jobs, ended, strict=True):
        alone = [event.result for event in run(candidates(job, 3), context) if isinstance(event, Done)]
        best = max(alone, key=lambda result: result.pixels.mean())
        np.testing.assert_array_equal(read_image(done.outputs[0]), best.pixels)
        record = read_record(done.outputs[0])
        assert record == best.record
        assert job.recipe.seed <= record.seed < job.recipe.seed + 3


def test_a_job_fails_where_all_its_candidates_do(model, context, tmp_path):
    jobs = [image(model, 0, tmp_path / "a.png", scheduler="no-such"), image(model, 0, tmp_path / "b.png")]
    first, second = [e for e in run_best(jobs, context, count=2, scorer=Brightest()) if isinstance(e, (Done, Failed))]
    assert isinstance(first, Failed)
    assert isinstance(second, Done)
    assert not (tmp_path / "a.png").exists()


def test_the_command_keeps_one_and_makes_none_again(tmp_path, capsys):
    flags = ["--best-of", "2", "--steps", "2", "--device", "cpu", "-o", str(tmp_path / "out") + "/", "--json"]
    assert main(["image", "a red cube", "a blue ball", *flags]) == 0
    made = json.loads(capsys.readouterr().out)["outputs"]
    assert len(made) == 2
    assert main(["image", "a red cube", "a blue ball", *flags]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"] == []


def test_a_model_without_a_scorer_is_one_line(model, tmp_path, capsys):
    code = main(["image", "a cube", "--model", str(model), "--best-of", "2", "-o", str(tmp_path / "a.png")])
    assert code == 2
    assert "image_encoder" in capsys.readouterr().err
