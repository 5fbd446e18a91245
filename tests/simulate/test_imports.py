import subprocess
import sys


def test_neither_torch_nor_qt_is_imported():
    code = (
        "import sys, napari_lowdose_tem.simulate, napari_lowdose_tem.photon_transfer;"
        "print([m for m in ('torch', 'qtpy', 'napari', 'matplotlib') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
