"""What `batch check` says of a manifest, beside the plans of its tasks one by one."""

import json
import subprocess
import sys

import pytest

from lab.batch.foresee import disk, foresee
from lab.batch.manifest import read_manifest
from lab.kinds import kinds
from shared.plan import calibration
from tests.lab.command import environment

KNOWN = calibration.Calibration(1e9, 2e9, 1e9, 1e9, 1e-6)
UPSCALE = {"kind": "upscale", "source": "cube.png"}


def tasks_of(folder, *jobs):
    (folder / "cube.png").write_bytes(b"")
    (folder / "jobs.json").write_text(json.dumps({"version": 1, "jobs": jobs}))
    return read_manifest(folder / "jobs.json")


def test_times_and_memory_are_those_of_the_plans_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "load", lambda place: KNOWN)
    small = {"kind": "image", "prompt": "a red cube", "steps": 1, "width": 32, "height": 32}
    large = {"kind": "image", "prompt": "a blue duck", "steps": 2, "width": 64, "height": 64}
    tasks = tasks_of(tmp_path, *({**small, "seed": seed} for seed in (1, 2, 2)), large, {**UPSCALE, "name": "up"})
    planner, _ = kinds()["image"].planner("cpu")
    few, many = (planner(kinds()["image"].recipe.parse(tasks[index].recipe)) for index in (0, 3))
    seen = foresee(tasks, "cpu")
    assert seen.seconds == pytest.approx(3 * KNOWN.seconds(few) + KNOWN.seconds(many))
    assert seen.peak_bytes == pytest.approx(max(few.peak, many.peak), rel=0.01)  # the process itself is in it
    assert (seen.tasks, seen.equal) == ({"image": 4, "upscale": 1}, 1)
    assert seen.disk_bytes == sum(map(disk, tasks))
    monkeypatch.setattr("lab.batch.foresee.PLANNED", 1)  # what is not planned is taken to be like what is
    assert foresee(tasks, "cpu").seconds == pytest.approx(4 * KNOWN.seconds(few))


def test_tools_alone_have_no_plan_and_need_no_torch(tmp_path):
    tasks_of(tmp_path, {**UPSCALE, "name": "a"}, {**UPSCALE, "name": "b"})
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "lab.main", "batch", "check", "jobs.json"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "2 tasks: 2 upscale\n1 of them are equal" in told.stdout
    assert "planned of kinds alone" in told.stdout
    assert "torch" not in {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
