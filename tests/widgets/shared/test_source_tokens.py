from napari.components import ViewerModel

from napari_lowdose_tem.widgets.shared.source_tokens import SourceTokens


def test_tokens_tell_pixels_apart(movie):
    tokens, layer = SourceTokens(), ViewerModel().add_image(movie)
    first = tokens.of(layer, layer.data)
    assert tokens.of(layer, layer.data) == first
    layer.data = movie.copy()
    assert tokens.of(layer, layer.data) != first
