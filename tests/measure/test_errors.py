import numpy as np
import pytest

from napari_lowdose_tem.measure import FitOptions, Line, fit_profile, sample_line
from napari_lowdose_tem.measure.errors import bound_sphere, bound_spheres
from napari_lowdose_tem.measure.thresholds import NETWORK_FACTOR

PX, SIGMA, NOISE = 4.8, 5.0, 0.46
K = -np.log([0.59, 0.5])
RADII = (40.0, 52.0)


def bound(apart):
    """Standard errors of places, radii and contrasts of both, and of the distance."""
    covariance = bound_spheres((0.0, apart), RADII, K, SIGMA, PX, NOISE)
    move = np.array([-1.0, 0, 0, 1, 0, 0])
    return np.sqrt(np.diag(covariance)), np.sqrt(move @ covariance @ move)


def test_far_from_each_other_spheres_are_known_as_well_as_alone():
    together, _ = bound(500.0)
    for i, (radius, contrast) in enumerate(zip(RADII, K, strict=True)):
        alone = bound_sphere(radius, contrast, SIGMA, PX, NOISE)
        assert together[3 * i] == pytest.approx(alone.center, rel=0.02)
        # more of the background is seen
        assert 0.9 * alone.diameter < 2 * together[3 * i + 1] < 1.01 * alone.diameter


def test_the_more_they_overlap_the_less_is_known():
    errors = [bound(apart) for apart in (500.0, 80.0, 60.0, 40.0, 20.0)]
    assert (np.diff([each for each, _ in errors], axis=0) > 0).all()
    assert errors[-1][1] > errors[-2][1] > errors[-3][1]
    assert (errors[-2][0] > [1.6, 1.3, 1.5, 1.4, 1.1, 1.3] * errors[0][0]).all()


@pytest.mark.parametrize("apart", [74.0, 100.0])
def test_the_bound_is_that_of_images_rendered_otherwise(render, apart):
    start = np.array([150.0, RADII[0], K[0], 150.0 + apart, RADII[1], K[1], 1.0])

    def image(values):
        spheres = [(150.0, c, 2 * r, np.exp(-k)) for c, r, k in values[:6].reshape(2, 3)]
        return render((63, 86), spheres, np.sqrt(SIGMA**2 - PX**2 / 12), (PX, PX), values[6], 10).ravel()

    steps = np.array([2.0, 2.0, 0.03, 2.0, 2.0, 0.03, 0.01])
    slope = np.array(
        [(image(start + m) - image(start - m)) / (2 * s) for m, s in zip(np.diag(steps), steps, strict=True)]
    )
    expected = NOISE * np.sqrt(np.diag(np.linalg.inv(slope @ slope.T)))[:6]
    np.testing.assert_allclose(bound(apart)[0], expected, rtol=0.15)


def test_spheres_at_one_place_cannot_be_told_apart():
    for second in ((0.0, 40.0, K[0]), (5.0, 40.0, 0.0)):
        with pytest.raises(np.linalg.LinAlgError):
            bound_spheres(*zip((0.0, 40.0, K[0]), second, strict=True), SIGMA, PX, NOISE)


def enhanced_pair(render, apart):
    """Profile along spheres of 80 and 100 nm."""
    spheres = [(150.0, 170.0, 80.0, 0.5), (150.0, 170.0 + apart, 100.0, 0.5)]
    image = render((63, 90), spheres, 5.0, (PX, PX))
    return sample_line(image, Line((150 / PX, 16), (150 / PX, 74)), (PX, PX))


def test_errors_of_a_pair_on_an_enhanced_frame_know_of_the_neighbour(render):
    profile = enhanced_pair(render, 90.0)
    options = FitOptions(particles=2, is_enhanced=True)
    less, found = (fit_profile(profile, options, raw_noise=noise) for noise in (0.2, 0.4))
    assert not found.refused
    first, second = found.particles
    covariance = NETWORK_FACTOR**2 * bound_spheres(
        [p.center for p in found.particles],
        [p.diameter / 2 for p in found.particles],
        [-np.log(p.t_min) for p in found.particles],
        first.edge_sigma,
        PX,
        np.sqrt(0.4**2 - 0.2**2),  # what is the same in both is the residuals' part
    )
    for name, weights in (
        ("separation_se", [-1, 0, 0, 1, 0, 0]),
        ("margin_se", [-1, -1, 0, 1, -1, 0]),
    ):
        expected = weights @ covariance @ np.array(weights)
        assert getattr(found, name) ** 2 - getattr(less, name) ** 2 == pytest.approx(expected, rel=1e-3)
    for i, (particle, other) in enumerate(zip((first, second), less.particles, strict=True)):
        place, radius, contrast = np.diag(covariance)[3 * i : 3 * i + 3]
        assert particle.center_se**2 - other.center_se**2 == pytest.approx(place, rel=1e-3)
        assert particle.diameter_se**2 - other.diameter_se**2 == pytest.approx(4 * radius, rel=1e-3)
        expected = particle.t_min**2 * contrast
        assert particle.t_min_se**2 - other.t_min_se**2 == pytest.approx(expected, rel=1e-3)
    hopeless = fit_profile(profile, options, raw_noise=3.0)
    assert "too noisy: the d" in hopeless.refused


@pytest.mark.parametrize("particles", [None, 2])
def test_spheres_that_overlap_in_an_enhanced_frame_are_refused(render, particles):
    profile = enhanced_pair(render, 80.0)
    found = fit_profile(profile, FitOptions(particles=particles, is_enhanced=True), raw_noise=0.1)
    assert "overlap" in found.refused  # and not taken for one
    known = fit_profile(profile, FitOptions(particles=particles))
    assert known.separation == pytest.approx(80, abs=0.1)
