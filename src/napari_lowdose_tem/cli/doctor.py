"""Check the installation: `lowdose-tem doctor`."""

from __future__ import annotations

from rich.table import Table

from napari_lowdose_tem.cli._app import JsonOption, app, clear_errors, console, print_json


@app.command()
@clear_errors
def doctor(as_json: JsonOption = False) -> None:
    """Check versions, processors and models, and say what to do about what is missing."""
    from napari_lowdose_tem.engine.doctor import examine

    report = examine()
    if as_json:
        print_json(report)
        return
    console.print(
        f"napari-lowdose-tem {report['napari-lowdose-tem']}, Python {report['python']}, {report['system']}"
    )
    packages = Table("package", "version")
    for name, found in report["packages"].items():
        packages.add_row(name, found or "not installed")
    devices = Table("device", "works", "name", "precision", "remark")
    for entry in report["devices"]:
        works = "yes" if entry["works"] else "no"
        devices.add_row(entry["kind"], works, entry["name"] or "", entry["precision"] or "", entry["reason"])
    models = Table("model", "network", "file")
    for entry in report["models"]:
        models.add_row(entry["name"], entry["architecture"], entry["path"])
    for table in (packages, devices, models):
        console.print(table)
    console.print(f"frames are enhanced on: {report['chosen']}", highlight=False)
    for line in report["advice"]:
        console.print(f"- {line}", highlight=False)
