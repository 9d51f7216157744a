"""How pictures of a browser are judged, on pictures whose distance from ours is known."""

import numpy as np
import pytest

from benchmarks.asset_browser import (
    FORMATS,
    Job,
    as_page_wants,
    covered,
    linear_light,
    main,
    measure,
    plan,
    sheet_label,
)
from dreamfusion.mesh.colour import to_display
from dreamfusion.mesh.turntable import render_mesh
from dreamfusion.render.shading import AMBIENT, DIFFUSE
from dreamfusion.views import around
from shared.errors import InputError, KinoformError
from tests.dreamfusion.mesh.files.meshes import coloured_ball


def test_no_light_is_nearer_to_ours_than_the_one_chosen():
    x = np.linspace(0, 1, 256)
    wanted = 255 * (AMBIENT + DIFFUSE * x)

    def off(ambient, diffuse):
        return np.square(to_display((ambient + diffuse * x).astype(np.float32)) - wanted).mean()

    ambient, diffuse = linear_light()
    least = off(ambient, diffuse)
    assert np.sqrt(least) < 8
    for step in (-0.02, 0.02):
        assert off(ambient + step, diffuse) > least
        assert off(ambient, diffuse + step) > least


def test_without_three_it_says_what_to_install(tmp_path):
    with pytest.raises(InputError, match="npm install --prefix DIR three"):
        main(["--modules", str(tmp_path)])


@pytest.mark.parametrize("files", [["chair.obj"], ["a/chair.glb", "b/chair.glb"]])
def test_files_that_would_hide_each_other_are_refused(tmp_path, files):
    (tmp_path / "three").mkdir()
    with pytest.raises(InputError, match="expected GLBs of different names"):
        main(["--modules", str(tmp_path), "--chromium", "none", *files])


def test_the_page_gets_the_camera_of_our_render():
    views = around(2, 32, start=20.0)
    job = as_page_wants(Job("a.glb", "three", "lit", 1), views, {"lit": (0.25, 0.5)})
    assert (job["name"], job["ambient"], job["diffuse"], job["size"]) == ("a.glb-lit-1", 0.25, 0.5, 32)
    azimuth, elevation, radius = job["orbit"]
    assert azimuth == pytest.approx(200)
    a, e = np.radians([azimuth, elevation])
    assert job["eye"] == pytest.approx(
        [radius * np.sin(a) * np.cos(e), radius * np.sin(e), radius * np.cos(a) * np.cos(e)]
    )


def test_levels_off_are_those_of_the_worst_view_and_channel():
    mesh, views = coloured_ball(), around(4, 32, start=20.0)
    mesh.visual.vertex_colors = np.array([[120, 80, 60, 255]], np.uint8).repeat(len(mesh.vertices), axis=0)
    jobs = plan(["ball"], model_viewer=True)
    mask = covered(mesh, views)
    lit, unlit = render_mesh(mesh, views), render_mesh(mesh, views, shading="albedo")
    assert (unlit[mask] == [120, 80, 60]).all()  # whole pixels only
    alpha = np.where((unlit == 128).all(axis=-1), 0, 255)[..., None]

    def shown(job):
        return np.concatenate([(lit if job.light == "lit" else unlit)[job.view], alpha[job.view]], axis=-1).astype(
            np.uint8
        )

    taken = {job.name: shown(job) for job in jobs}
    taken["ball.obj-lit-2"][..., 2] += 9
    taken["ball.ply-unlit-3"][..., 0] += 3
    rows = {row.metric: row for row in measure(mesh, "ball", views, jobs, taken)}
    assert set(rows) == {
        *(f"ball{suffix} {light}" for suffix in FORMATS for light in ("lit", "unlit")),
        "ball.glb same numbers",
        "ball.glb model-viewer",
    }
    assert rows["ball.obj lit"].value == pytest.approx(9)
    assert rows["ball.ply unlit"].value == pytest.approx(3)
    assert rows["ball.glb lit"].value == rows["ball.glb unlit"].value == 0
    assert [rows[f"ball{s} lit"].reached for s in FORMATS] == [True, False, True]
    assert rows["ball.glb model-viewer"].reached is None
    assert sheet_label("ball", list(rows.values())) == "ball, levels off when lit: GLB 0.0, OBJ 9.0, PLY 0.0"

    taken["ball.glb-lit-0"] = np.roll(taken["ball.glb-lit-0"], 8, axis=1)
    with pytest.raises(KinoformError, match=r"ball\.glb, lit: expected its pixels where ours are"):
        measure(mesh, "ball", views, jobs, taken)
