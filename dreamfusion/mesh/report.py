"""What can be said about a mesh without looking at it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import trimesh


@dataclass(frozen=True)
class MeshReport:
    """watertight: every edge has two faces. outward: consistently wound, with positive volume. components: separate
    pieces. volume, area: in world units. lowest, highest: opposite corners of the bounding box.
    threshold: the density that the surface lies at. silhouette_iou: of the density's level set, before
    floaters are dropped, with the rendered field.
    """

    watertight: bool
    outward: bool
    components: int
    vertices: int
    faces: int
    volume: float
    area: float
    lowest: tuple[float, float, float]
    highest: tuple[float, float, float]
    threshold: float | None = None
    silhouette_iou: float | None = None

    def to_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return asdict(self)

    def line(self) -> str:
        """One line for people."""
        closed = "watertight" if self.watertight else "open"
        pieces = "1 piece" if self.components == 1 else f"{self.components} pieces"
        return f"{self.faces:,} faces, {pieces}, {closed}, volume {self.volume:.3f}"


def mesh_report(
    mesh: trimesh.Trimesh, *, threshold: float | None = None, silhouette_iou: float | None = None
) -> MeshReport:
    """Measures a mesh."""
    lowest, highest = mesh.bounds.tolist()
    return MeshReport(
        watertight=bool(mesh.is_watertight),
        outward=bool(mesh.is_winding_consistent and mesh.volume > 0),
        components=int(mesh.body_count),
        vertices=len(mesh.vertices),
        faces=len(mesh.faces),
        volume=float(mesh.volume),
        area=float(mesh.area),
        lowest=tuple(lowest),
        highest=tuple(highest),
        threshold=threshold,
        silhouette_iou=silhouette_iou,
    )
