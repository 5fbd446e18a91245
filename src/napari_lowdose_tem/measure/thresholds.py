"""The tuned numbers of the measurements: what each means, its unit, and what chose it.

*study*: a table of docs/measurement.md, made by studies/measurement.py. *derived*: follows from what is said.
*test*: that file of tests/measure fails without it. *by eye*: on profiles of simulated and real frames;
nothing finer is known. Tolerances and steps of the solvers stand where they are used.
"""

# --- when there is no number
LEAST_SIGNIFICANCE = 4.0
"""Depth of a dip for it to be there, as a matched filter sees it [σ]. Derived: noise exceeds 4 σ at fewer
than one of 10⁴ places."""
LEAST_LINE_SIGNIFICANCE = 12.0
"""The same for a line on a raw frame [σ]. By eye on the study's draws: below, errors miss the truth far
too often."""
LEAST_UNGUIDED_SIGNIFICANCE = 6.0
"""The same for a sphere found on raw counts without a start [σ]. By eye on the study's draws."""
LARGEST_ERROR = 0.4
"""Standard error of a diameter [diameters]. By eye: its 95 % interval reaches from a fifth to nearly twice
d."""
SMALLEST_RADIUS_PX = 1.0
"""[px]. Derived: below, no pixel lies wholly within the particle."""
WIDEST_LINE = 1.1
"""Width of a line [diameters]. By eye: a wider one averages mostly background. Test: test_broken."""
LEAST_NETWORK_DISTANCE = 0.95
"""Distance of two centres on an enhanced frame [mean diameters]. Study, "Enhanced frames", pairs: closer,
the diameters were wrong by several of their errors."""
LEAST_DISTANCE = 0.2
"""Distance of two centres [radii of the smaller sphere]. By eye: closer, the fit has split one particle."""
LEAST_SAMPLES, LEAST_BACKGROUND_SAMPLES, LEAST_CENTRAL_SAMPLES = 8, 3, 4
"""On a line, in its background, near a centre. Derived: more than the parameters: x, r, K, blur, level and
slope; level and slope; a parabola."""

# --- what the notes say
ODD_NOISES, ODD_MISFIT = 2.0, 0.01
"""Residual of a line worth a note [noise, background]. By eye on squares and crystals. Test:
test_refusals."""
ODD_INFLATION = 1.5
"""The same in two dimensions [noise of white pixels], beside `ODD_MISFIT`."""
WIDEST_CENTRAL_LINE = 0.25
"""Width up to which the width may be ignored [diameters]. Derived: d is then 1 % too small, (w/r)²/24."""

# --- errors
NETWORK_FACTOR = 1.3
"""Error of an enhanced frame [Cramér–Rao bounds]. Study, "Enhanced frames": intervals then hold the truth
in 90–99 %."""
NO_RAW_FACTOR = 2.0
"""Error of an enhanced frame without the raw one [errors of the fit]. By eye; docs/measurement.md: it is
too little."""
MOST_LAGS = 12
"""Lags over which residuals may be correlated [samples]. By eye."""
INFLATION_BLOCK_PX = 4
"""Side of the blocks that show correlated noise [px]. Derived: a camera's pixels share light over 1–2 px."""

# --- how many particles
MOST_SUGGESTED = 4
"""Particles tried. Test: test_fit, chains."""
LARGEST_SHARE_LEFT = 0.6
"""Misfit with one sphere more [misfit before]. By eye on pairs and chains."""
FLAT_MISFIT, FLAT_MISFIT_NETWORK = 0.02, 0.06
"""Misfit with which no sphere more is tried [deepest dip]; larger on enhanced frames, whose particles are
no perfect spheres. By eye on enhanced single particles."""
FLAT_NOISES = 1.5
"""The same [noise]. Saves fits; changes no number."""
LARGEST_RADIUS_RATIO = 5.0
"""Of neighbours. By eye: beyond, the smaller one is a flaw of the larger."""
LEAST_DEPTH_SHARE = 0.12
"""Depth of a particle beside others [deepest]. By eye: a shallower dip is a bend of the background."""
LEAST_GUESS_DISTANCE = 0.35
"""Distance of two centres in the choice of fits [radii of the smaller]. By eye on crossed particles."""
OVERLAP_PENALTY = 1.2
"""Misfit by which a fit of spheres closer than that must be better. By eye on the same."""
NOISE_LEFT, EXACT_MISFIT = 1.05, 2.5e-4
"""Misfit that no other first guess can improve [noise, background]. Derived: the scatter of the noise
itself."""
PARTICLE_POLLS = 9
"""Frames of a stack that vote on the number of particles. By eye."""

# --- limits of the full fit; a fit that ends at one is refused
PIXEL_SIGMA_PX, LARGEST_SIGMA_PX, LARGEST_SIGMA = 0.29, 8.0, 0.1
"""Blur [px, px, line]. Derived: a pixel alone blurs by 1/√12; the others by eye on defocused frames."""
SHARP = 1.02
"""Blur that is the pixel's own, hence known [PIXEL_SIGMA_PX]. By eye."""
LEAST_CONTRAST, LARGEST_CONTRAST = 0.003, 8.0
"""K = −ln T_min. By eye: a dip of 0.3 % is lost in any noise, e⁻⁸ is opaque."""
LARGEST_STRETCH = 25.0
"""Depth over that of counts, of images scaled to 0 … 1. By eye."""
BEYOND_LINE, LARGEST_RADIUS, LARGEST_LEVEL, LARGEST_SLOPE = 0.2, 2.0, 50.0, 2.0
"""Centre beyond an end, and radius [line]; background and its change along the line [first guess]. By eye."""
NETWORK_BLUR_PX, NETWORK_BLUR_SPREAD, NETWORK_NOISE = 1.4, 0.3, 0.02
"""Gaussian σ of edges on enhanced frames [px], spread of its logarithm, and error of a pixel [background],
the prior by which one line tells blur, contrast and diameter apart. By eye on enhanced frames of known
truth."""

# --- the central fits and the background
CENTRAL_WINDOW = 0.8
"""Points used [radii]. Study, "without noise": the bias of `paper` falls with it, its scatter rises
beyond."""
CENTRAL_ROUNDS = 12
"""Times the window is centred anew. By eye: it has settled then, or swings."""
LEAST_WEIGHT = 0.05
"""Square of the depth below which points weigh no more [deepest]. By eye: points at depth 0 would decide
all."""
BACKGROUND_FROM = 1.15
"""Where background begins [radii], beyond two blurs. By eye on blurred rims."""
LEAST_BACKGROUND_SPAN = 0.4
"""Reach of background for a slope [line]. By eye: one side alone says nothing about it."""
HUBER = 1.5
"""Where outliers of the background are held down [scatter]. Derived: Huber's estimator is then 96 %
efficient."""

# --- first guesses
GUESS_SAMPLES, GUESS_CENTERS, GUESS_RADII = 96, 36, 9
"""Samples a profile is thinned to, and the grid of spheres. By eye."""
GUESS_SMALLEST_RADIUS_PX, GUESS_LARGEST_RADIUS, GUESS_BEYOND = 1.5, 0.55, 0.1
"""Radii of the grid [px, line], and how far spheres may reach beyond the line [line]. By eye."""
GUESS_BLUR = 1.2
"""Blur of guessed spheres [samples]. By eye."""
LEAST_TRANSMISSION = 0.02
"""What noisy samples are raised to before the logarithm. By eye at 5 e⁻/px."""
MOST_EXCHANGES = 6
"""Rounds of exchanging guessed spheres. Test: test_fit, chains."""
PAIR_RIM = 0.15
"""Where a pair of particles begins [darkest]. By eye."""
PAIR_RADII = (0.12, 0.17, 0.22, 0.28, 0.35, 0.42)
"""Radii tried in a pair [its length]. Test: test_fit, unequal spheres that overlap."""
MOST_GUESSES, GUESS_ROUNDS, ALIKE = 4, 20, 0.03
"""Guesses handed on, rounds that refine them, and difference below which two are one [radii]. Test: the
same."""
LEAST_PROMINENCE = 0.1
"""Of a dip that may be a particle [deepest]. By eye."""
PEAK_WIDTH = 1.1
"""Radius over half width at half depth. Derived: √(4/3) for a sphere, less for a blurred one."""
LINE_ENDS = 0.12
"""Share of the line at each end that is taken for background. By eye."""

# --- spheres in two dimensions
WINDOW_REACH, WINDOW_MARGIN_PX = 1.6, 5
"""Radius of the pixels used [radii + px]. By eye: half of them are background."""
NEIGHBOUR_SIGMAS, NEIGHBOUR_DEPTH = 4.0, 0.02
"""Pixels beyond the particle that belong to another: below the fit by [scatter] and [background]. By eye."""
NEIGHBOUR_MARGIN_PX = 2
"""By which a neighbour is enlarged [px]. By eye: its blurred rim."""
RADIUS_SPAN, CONTRAST_SPAN, LEVEL_SPAN, TILT_SPAN = 3.0, 8.0, 0.5, 0.5
"""How far least squares may leave the line's fit: factors, share of the level, slope over a radius. By
eye."""

# --- raw counts
COUNTS_BLUR_PX = 1.1
"""Gaussian σ of optics, camera and pixel [px], for raw frames, in which no blur can be seen. That of the
frames in the study; were it 0.7 or 1.5 px, 96 nm would come out 0.2 nm too small or 0.4 nm too large."""
FIRST_FACTORS = (0.7, 1.0, 1.4)
"""Radii to start from without a start [guess]. By eye: one alone ends in holes of the noise."""
GUESS_CONTRASTS = (0.05, 3.0)
"""Range of a first K. By eye."""
LEAST_READ_NOISE = 0.1
"""Variance beyond Poisson's from which it enters the weights [background]. By eye on the measured camera."""
COUNTS_ROUNDS = 40
"""Rounds of Fisher scoring. By eye: 15 are too few."""
COUNTS_CONTRASTS = (0.01, 6.0)
"""Range of K. By eye: opaque beyond. Test: test_broken."""
COUNTS_SHIFT, COUNTS_RADII = 1.5, (0.75, 2.2)
"""How far the centre may move [first radius], and the radius from [px] to [first radius]. By eye."""
OTHER_RADIUS, OTHER_CENTER = 0.3, 0.5
"""Difference of radius and centre that makes two spheres different ones [radii]. By eye."""
FARTHEST_RADIUS = 2.5
"""End of the interval's search [best radius]. By eye."""

# --- pixels
HOT_NOISES, HOT_SHARE = 8.0, 0.2
"""Excess of a hot pixel over its brightest neighbour [noise, level]. Test: test_profile."""
LEAST_PRESENT = 0.5
"""Share of a line's width that must lie on valid pixels. Test: test_broken."""
DRIFT_SIDE_PX, DRIFT_SIDE = 96, 1.5
"""Side of the window whose drift is followed, at least [px, line]. Derived: registration needs 64 px."""
DRIFT_RENEWAL = 0.1
"""Share of a new frame in the mean that the next is compared with. By eye."""
