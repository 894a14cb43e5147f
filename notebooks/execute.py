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
        timeout: seconds that one cell may take, and the kernel to start and to send what a cell has shown; by
            nbclient's own few seconds for these, a busy machine loses outputs.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=timeout,
        startup_timeout=timeout,
        iopub_timeout=timeout,
        raise_on_iopub_timeout=True,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    ).execute()
    return join_streams(notebook)


def join_streams(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Put adjacent pieces of one stream together, in place.

    In how many pieces a kernel sends what is printed depends on how busy the machine is. (nbclient's own
    ``coalesce_streams`` also joins pieces with a picture between them.)
    """
    for cell in notebook.cells:
        joined: list[nbformat.NotebookNode] = []
        for output in cell.get("outputs", []):
            if joined and output.output_type == "stream" == joined[-1].output_type and output.name == joined[-1].name:
                joined[-1].text += output.text
            else:
                joined.append(output)
        if "outputs" in cell:
            cell.outputs = joined
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
