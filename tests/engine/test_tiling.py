import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_lowdose_tem.engine.tiling import blend, cut_tiles

sizes = st.integers(1, 40).map(lambda n: 32 * n)


@given(sizes, sizes, st.integers(128, 900), st.integers(0, 300))
def test_weights_of_all_tiles_add_up_to_one(rows, cols, tile_px, halo_px):
    frames = np.arange(2 * rows * cols, dtype=np.float32).reshape(2, rows, cols)
    total = np.zeros_like(frames)
    for tile in cut_tiles((rows, cols), tile_px, halo_px, 32):
        blend(total, tile, frames[:, *tile.source].copy())
    np.testing.assert_allclose(total, frames, rtol=1e-6)


@given(sizes, st.integers(128, 900), st.integers(0, 300))
def test_what_is_not_used_of_a_tile_has_no_weight(size, tile_px, halo_px):
    for tile in cut_tiles((size, 64), tile_px, halo_px, 32):
        weight = tile.rows.weight()
        assert (weight[tile.rows.used] > 0).all()
        assert np.count_nonzero(weight) == len(weight[tile.rows.used])


@given(sizes, st.integers(128, 900), st.integers(0, 300))
def test_tiles_are_aligned_and_no_larger_than_asked(rows, tile_px, halo_px):
    for tile in cut_tiles((rows, 64), tile_px, halo_px, 32):
        assert tile.rows.start % 32 == 0
        assert tile.rows.stop % 32 == 0
        assert tile.rows.stop - tile.rows.start <= max(tile_px, rows if rows <= tile_px else tile_px)
        assert (tile.cols.start, tile.cols.stop) == (0, 64)


def test_inner_pixels_keep_their_whole_halo():
    for tile in cut_tiles((4096, 2048), 1536, 256, 32):
        for span, size in ((tile.rows, 4096), (tile.cols, 2048)):
            assert span.start == 0 or span.keep_start - span.start == 256
            assert span.stop == size or span.stop - span.keep_stop == 256
