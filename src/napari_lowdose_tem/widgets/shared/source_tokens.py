"""Numbers that tell the pixels of layers apart."""

from __future__ import annotations

import itertools
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.layers import Layer


class SourceTokens:
    """Numbers that tell the pixels of layers apart: a new one when a layer's pixels are replaced."""

    def __init__(self) -> None:
        self._count = itertools.count()
        self._known: weakref.WeakKeyDictionary[Layer, tuple[int, Any]] = weakref.WeakKeyDictionary()

    def of(self, layer: Layer, pixels: Any) -> int:
        """Return the number of a layer with these pixels."""
        token, known = self._known.get(layer, (-1, None))
        # a reference, not the id: ids are given again when memory is freed
        if known is None or known() is not pixels:
            token = next(self._count)
            self._known[layer] = token, weakref.ref(pixels)
        return token

    def changed(self, layer: Layer) -> None:
        """Note that the pixels of a layer changed in place."""
        self._known.pop(layer, None)
