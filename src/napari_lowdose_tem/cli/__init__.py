"""The command line: parse, call, print. Heavy imports wait until a command needs them."""

# listed by --help in this order
from napari_lowdose_tem.cli import enhance, measure, simulate, check, train, import_weights, evaluate, doctor  # noqa: F401, I001
from napari_lowdose_tem.cli import reproduce  # noqa: F401
from napari_lowdose_tem.cli import bench  # noqa: F401
from napari_lowdose_tem.cli import watch  # noqa: F401
from napari_lowdose_tem.cli._app import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the program."""
    app()
