"""Run the notebooks from a fresh kernel in an empty folder and store what they show: ``make notebooks``.

They are stored with their outputs, because that is how most people read them: on GitHub and in the documentation. A
test runs them anew and compares.
"""

from __future__ import annotations

import argparse
import base64
import io
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parent
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def execute(path: Path, folder: Path, timeout: int = 600) -> nbformat.NotebookNode:
    """Return the notebook with the outputs of a run in ``folder``; errors in a cell are raised.

    Args:
        path: the notebook; it is not changed.
        folder: where its kernel runs.
        timeout: seconds that one cell may take.
    """
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=timeout, kernel_name="python3", resources=where, record_timing=False).execute()
    return notebook


def tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Leave out what differs from machine to machine without meaning anything; make the pictures small."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number:02}", {}
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = {}
            if "text" in output:
                output.text = output.text.replace(str(Path.home()), "~")
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _small(output.data["image/png"])
    return notebook


def _small(png: str) -> str:
    """Return a PNG in base64 with 256 colours: about a third of the size."""
    out = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(256).save(out, "png", optimize=True)
    return base64.b64encode(out.getvalue()).decode("ascii")


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, default=NOTEBOOKS, help="default: all")
    for path in parser.parse_args().notebooks:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{path.name}: running", flush=True)
            nbformat.write(tidy(execute(path, Path(folder))), path)


if __name__ == "__main__":
    main()
