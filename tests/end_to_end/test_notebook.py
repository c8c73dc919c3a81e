"""The notebook of the documentation runs from top to bottom."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "fewscan.ipynb"


@pytest.mark.slow
# Jupyter's own warnings about the event loop and its folders are not ours.
@pytest.mark.filterwarnings("default")
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = ["".join(output["data"].get("text/html", "") for output in _results(cell)) for cell in notebook.cells]
    tables = [page for page in shown if "<table>" in page]
    assert len(tables) == 2
    assert "data:image/png;base64," in tables[0]
    assert "LV" in tables[1]


def _results(cell: dict[str, Any]) -> list[dict[str, Any]]:
    return [output for output in cell.get("outputs", []) if output["output_type"] == "execute_result"]
