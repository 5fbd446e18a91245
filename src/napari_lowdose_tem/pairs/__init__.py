"""High- and low-dose frames of the same fields: found, brought to one grid, registered."""

from napari_lowdose_tem.pairs.field import Field
from napari_lowdose_tem.pairs.find import find_fields
from napari_lowdose_tem.pairs.load import LoadedField, RegisteredPair, load_field
from napari_lowdose_tem.pairs.reduce import reduce_frame
from napari_lowdose_tem.pairs.register import find_shift

__all__ = [
    "Field",
    "LoadedField",
    "RegisteredPair",
    "find_fields",
    "find_shift",
    "load_field",
    "reduce_frame",
]
