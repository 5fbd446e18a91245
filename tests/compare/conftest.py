import pytest

from napari_lowdose_tem.simulate import simulate_pair


@pytest.fixture(scope="session")
def field():
    """High dose and low dose of one simulated field [counts], on one grid, and its transmission."""
    high, low, scene = simulate_pair("FeNi", shape=(384, 512), dose_e_per_px=8.0, rng=4, n_particles=60)
    return high, low, scene
