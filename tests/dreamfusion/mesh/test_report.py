import json

import pytest
import trimesh

from dreamfusion.mesh.report import mesh_report


def test_report_of_a_box():
    report = mesh_report(trimesh.creation.box((1, 2, 3)), threshold=5.0, silhouette_iou=0.9)
    assert (report.watertight, report.outward, report.components) == (True, True, 1)
    assert (report.vertices, report.faces) == (8, 12)
    assert report.volume == pytest.approx(6)
    assert report.area == pytest.approx(22)
    assert report.lowest == (-0.5, -1, -1.5)
    assert report.highest == (0.5, 1, 1.5)
    assert json.loads(json.dumps(report.to_dict()))["threshold"] == 5.0
    assert report.line() == "12 faces, 1 piece, watertight, volume 6.000"


def test_report_of_what_is_wrong():
    inside_out = trimesh.creation.box()
    inside_out.invert()
    assert not mesh_report(inside_out).outward
    box = trimesh.creation.box()
    opened = trimesh.Trimesh(box.vertices, box.faces[1:], process=False)
    assert not mesh_report(opened).watertight
    far = trimesh.creation.box()
    far.apply_translation((5, 0, 0))
    assert mesh_report(trimesh.util.concatenate([box, far])).components == 2
