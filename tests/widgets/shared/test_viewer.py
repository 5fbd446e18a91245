import numpy as np
from napari.components import ViewerModel

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.shared.layers import layer_tuple
from napari_lowdose_tem.widgets.shared.viewer import add_image, frame_index

STACK = np.arange(3 * 8 * 10, dtype=np.float32).reshape(3, 8, 10)


def test_names_stay_unique():
    viewer = ViewerModel()
    image = Image(STACK, name="a")
    for _ in range(3):
        add_image(viewer, layer_tuple(image))
    assert [layer.name for layer in viewer.layers] == ["a", "a 2", "a 3"]


def test_frame_index_with_other_units_and_fewer_axes():
    viewer = ViewerModel()
    layer = viewer.add_image(STACK, scale=(0.5, 1, 1), units=("s", "nm", "nm"), translate=(1, 0, 0))
    viewer.dims.set_current_step(0, 1)
    assert frame_index(viewer, layer) == 1
    fine = viewer.add_image(STACK, scale=(500, 1, 1), units=("ms", "nm", "nm"), translate=(1000, 0, 0))
    viewer.dims.set_current_step(0, 1)
    assert frame_index(viewer, layer) == frame_index(viewer, fine) == 1
    flat = viewer.add_image(STACK[0], units=("nm", "nm"))
    assert frame_index(viewer, flat) == 0
