"""Lines on frames: profiles, diameters, edges and separations with their errors."""

from napari_lowdose_tem.measure.fit import fit_profile, suggest_particles
from napari_lowdose_tem.measure.profile import Line, Profile, sample_line
from napari_lowdose_tem.measure.result import Background, FitOptions, Measurement, Particle

__all__ = [
    "Background",
    "FitOptions",
    "Line",
    "Measurement",
    "Particle",
    "Profile",
    "fit_profile",
    "sample_line",
    "suggest_particles",
]
