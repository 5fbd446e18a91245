"""Specimens and camera with known truth."""

from napari_lowdose_tem.simulate.camera import IDEAL, MEASURED, Camera, expose
from napari_lowdose_tem.simulate.dataset import iter_dataset, simulate_dataset
from napari_lowdose_tem.simulate.pair import simulate_pair
from napari_lowdose_tem.simulate.paper import iter_paper_dataset
from napari_lowdose_tem.simulate.sequence import Motion, iter_frames, make_sequence
from napari_lowdose_tem.simulate.specimen import MATERIALS, draw_specimen, make_scene, render

__all__ = [
    "IDEAL",
    "MATERIALS",
    "MEASURED",
    "Camera",
    "Motion",
    "draw_specimen",
    "expose",
    "iter_dataset",
    "iter_frames",
    "iter_paper_dataset",
    "make_scene",
    "make_sequence",
    "render",
    "simulate_dataset",
    "simulate_pair",
]
