"""The plan of `train all`: stages, their minutes, and what is left for one."""

import pytest

from lab.training.own_data import PLAN, Plan, Stage, plan_stages, read_plan, write_plan
from shared.errors import InputError


def plan(**changes):
    stages = plan_stages(100, clips=True)
    return Plan(**{"data": "d", "minutes": 100, "size": 64, "seed": 0, "stages": stages, **changes})


@pytest.mark.parametrize(
    ("clips", "autoencoder", "joint", "names"),
    [
        (True, True, False, ["autoencoder", "image", "video", "scorer"]),
        (True, True, True, ["autoencoder", "image", "video", "video-joint", "scorer"]),
        (False, True, True, ["autoencoder", "image", "scorer"]),
        (True, False, False, ["image", "video", "scorer"]),
    ],
)
def test_the_stages_that_are_needed_share_the_time(clips, autoencoder, joint, names):
    stages = plan_stages(30, clips=clips, autoencoder=autoencoder, joint=joint)
    assert [stage.name for stage in stages] == names
    assert sum(stage.minutes for stage in stages) == pytest.approx(30)
    assert not any(stage.done or stage.steps for stage in stages)


def test_what_one_stage_took_too_long_the_others_share_by_their_weights():
    stages = [Stage(name="autoencoder", minutes=16, seconds=36 * 60), *plan_stages(100, clips=True)[1:]]
    late = plan(stages=stages)
    assert late.seconds_for(stages[1]) == pytest.approx(64 * 60 * 46 / 84)
    assert sum(map(late.seconds_for, stages[1:])) == pytest.approx(64 * 60)
    stages[0].seconds = 200 * 60
    assert late.seconds_for(stages[1]) == 0


def test_a_plan_reads_back_and_something_else_is_refused(tmp_path):
    assert read_plan(tmp_path) is None
    written = plan()
    write_plan(written, tmp_path)
    assert read_plan(tmp_path) == written
    for text in ("{", '{"minutes": 3}', (tmp_path / PLAN).read_text().replace('"image"', '"sound"')):
        (tmp_path / PLAN).write_text(text)
        with pytest.raises(InputError, match="a plan of `train all`"):
            read_plan(tmp_path)
