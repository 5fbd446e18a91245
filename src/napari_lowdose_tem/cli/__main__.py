"""`python -m napari_lowdose_tem.cli`, as torchrun starts it."""

from napari_lowdose_tem.cli import main

main()
