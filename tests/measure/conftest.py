import numpy as np
import pytest
from scipy import ndimage


def render_spheres(shape, spheres, sigma=0.0, pixel=(1.0, 1.0), level=1000.0, over=6):
    """Image of blurred spheres by brute force: points on a fine grid, blurred, averaged over pixels.

    `spheres`: (row, col, diameter, T_min), lengths in the unit of `pixel`.
    """
    rows, cols = (
        ((np.arange(n * over) + 0.5) / over - 0.5) * size for n, size in zip(shape, pixel, strict=True)
    )
    exponent = np.zeros((len(rows), len(cols)))
    for row, col, diameter, t_min in spheres:
        square = 1 - ((rows[:, None] - row) ** 2 + (cols - col) ** 2) / (diameter / 2) ** 2
        exponent += np.log(t_min) * np.sqrt(np.maximum(square, 0))
    fine = ndimage.gaussian_filter(np.exp(exponent), [sigma * over / size for size in pixel], mode="nearest")
    return level * fine.reshape(shape[0], over, shape[1], over).mean((1, 3))


@pytest.fixture(scope="session")
def render():
    return render_spheres
