import pytest

from dreamfusion.asset import export_asset
from dreamfusion.recipe import AssetRecipe
from dreamfusion.scene import Arrangement, Scene
from shared.errors import KinoformError
from tests.dreamfusion.shapes import SolidField, sphere, torus

RECIPE = AssetRecipe(prompt="a red ring", mesh_resolution=40, mesh_faces=3000)


def test_export_meshes_a_scene():
    asset = export_asset(Scene(SolidField(torus(), radius=1.1, width=1e-3)), RECIPE)
    assert asset.report.watertight
    assert asset.report.outward
    assert asset.report.components == 1
    assert asset.report.faces == len(asset.mesh.faces) <= 3000
    assert asset.report.silhouette_iou > 0.98
    with pytest.raises(KinoformError, match="empty"):
        export_asset(Scene(SolidField(sphere(), peak=0.0)), RECIPE)


def test_two_things_are_meshed_apart_and_stand_where_the_words_say():
    """Also what is small beside the other, which would be a floater of one field."""
    ring, ball = (Scene(SolidField(shape, radius=1.1, width=1e-3)) for shape in (torus(), sphere(0.2)))
    asset = export_asset(Arrangement((ball, ring), "on top of"), RECIPE)
    assert asset.report.watertight
    assert asset.report.outward
    assert asset.report.components == 2
    assert asset.report.faces <= 3000
    small, large = sorted(asset.mesh.split(), key=lambda part: part.volume)
    assert small.bounds[0, 1] == pytest.approx(large.bounds[1, 1], abs=1e-6)
    with pytest.raises(KinoformError, match="empty"):
        export_asset(Arrangement((ring, Scene(SolidField(sphere(), peak=0.0))), "next to"), RECIPE)
