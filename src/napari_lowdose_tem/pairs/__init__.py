"""High- and low-dose frames of the same fields: found, brought to one grid, registered."""

from napari_lowdose_tem.pairs.check import CheckProgress, CheckSummary, Finding, check, iter_check
from napari_lowdose_tem.pairs.field import Field
from napari_lowdose_tem.pairs.find import find_fields
from napari_lowdose_tem.pairs.load import LoadedField, RegisteredPair, load_field
from napari_lowdose_tem.pairs.reduce import reduce_frame
from napari_lowdose_tem.pairs.register import Registration, find_shift, register_frame
from napari_lowdose_tem.pairs.similarity import Similarity, register_similarity

__all__ = [
    "CheckProgress",
    "CheckSummary",
    "Field",
    "Finding",
    "LoadedField",
    "RegisteredPair",
    "Registration",
    "Similarity",
    "check",
    "find_fields",
    "find_shift",
    "iter_check",
    "load_field",
    "reduce_frame",
    "register_frame",
    "register_similarity",
]
