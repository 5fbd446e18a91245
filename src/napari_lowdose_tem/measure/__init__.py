"""Lines on frames: profiles, diameters, edges and separations with their errors."""

from napari_lowdose_tem.camera.raw_noise import measure_raw_noise, read_raw_noise
from napari_lowdose_tem.measure.counts import fit_counts
from napari_lowdose_tem.measure.fit import fit_profile, suggest_particles
from napari_lowdose_tem.measure.measurement import Background, FitOptions, Measurement, Particle
from napari_lowdose_tem.measure.over_time import OverTime, iter_over_time, measure_over_time
from napari_lowdose_tem.measure.profile import Line, Profile, sample_line
from napari_lowdose_tem.measure.sphere_fit import fit_sphere, snap_to_center
from napari_lowdose_tem.measure.sphere_window import SphereFit

__all__ = [
    "Background",
    "FitOptions",
    "Line",
    "Measurement",
    "OverTime",
    "Particle",
    "Profile",
    "SphereFit",
    "fit_counts",
    "fit_profile",
    "fit_sphere",
    "iter_over_time",
    "measure_over_time",
    "measure_raw_noise",
    "read_raw_noise",
    "sample_line",
    "snap_to_center",
    "suggest_particles",
]
