"""What Katsuno et al. 2021 report, as plain data.

H. Katsuno, Y. Kimura, T. Yamazaki, I. Takigawa, "Fast improvement of TEM image with low-dose electrons by
deep learning", arXiv:2106.01718 (2021).
"""

from __future__ import annotations

from typing import Any

from napari_lowdose_tem.bench.published import TABLE3

PUBLISHED: dict[str, Any] = {
    "citation": "H. Katsuno, Y. Kimura, T. Yamazaki, I. Takigawa (2021), Fast improvement of TEM image with "
    "low-dose electrons by deep learning, arXiv:2106.01718",
    # low-dose images of each set
    "table1": {
        "Ni": {"training": 224, "validation": 36},
        "FeNi": {"training": 260, "validation": 40},
        "SiC": {"training": 140, "validation": 20},
        "silicate": {"training": 176, "validation": 24},
        "alumina": {"training": 200, "validation": 40},
    },
    # mean and standard deviation over images: MAE of images scaled to 0…1, PSNR [dB]
    "table2": {
        "Ni": {"mae": [0.075, 0.026], "psnr": [20.82, 2.13]},
        "FeNi": {"mae": [0.034, 0.011], "psnr": [25.10, 1.86]},
        "SiC": {"mae": [0.074, 0.020], "psnr": [20.80, 1.60]},
        "silicate": {"mae": [0.062, 0.025], "psnr": [21.60, 2.82]},
        "alumina": {"mae": [0.075, 0.026], "psnr": [20.69, 2.06]},
        "all": {"mae": [0.063, 0.028], "psnr": [21.97, 2.79]},
    },
    "table3": TABLE3,
    # Fig. 2 and its text: epochs after which the validation loss stays, and epochs used
    "fig2": {"steady_after": 100, "used": 900},
    # Fig. 4 and its text: dose [e-/px], mean absolute difference from the high-dose image
    "fig4": {"hde_e_per_px": 1200, "lde_e_per_px": 4.7, "l1_lde": 0.34, "l1_output": 0.02},
    # Fig. 5 and its text: electrons [e-/px]; peaks and ends on the scale 0…1 of the high-dose image
    "fig5": {
        "hde_min_e": 396,
        "lde_max_e": 24,
        "hde_background": [0.7, 0.8],
        "hde_particles": 0.3,
        "output_background": 0.7,
        "output_particles": 0.4,
        "output_range": [0.15, 0.8],
    },
    # Figs. 6 and 7 [nm]; in the output the larger of the two particles of Fig. 7 is the first
    "lines": {
        "HDE": {"d": 95.2, "D": 102.1, "D - d": 6.9, "d1": 58.3, "d2": 73.0, "l": 78.4},
        "output": {"d": 96.0, "D": 106.1, "D - d": 10.1, "d1": 72.5, "d2": 53.8, "l": 72.9},
    },
}
"""Numbers of the paper by figure and table."""

MATERIALS = tuple(PUBLISHED["table1"])
