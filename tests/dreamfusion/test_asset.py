import pytest

from dreamfusion.asset import export_asset
from dreamfusion.recipe import AssetRecipe
from dreamfusion.scene import Scene
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
