"""The notebooks as pages of the site, with what their cells show: `python docs/tutorials.py` before Sphinx.

Without it the pages have no outputs, which is all that a check of links needs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ("explore", "results", "lightning", "own_head")


def page(name: str, folder: Path, root: Path | None = None) -> str:
    """A notebook as Markdown, its figures as files in folder; root: of data and runs, where its cells are executed."""
    notebook = nbformat.read(ROOT / f"notebooks/{name}.ipynb", as_version=4)
    if root:
        from nbclient import NotebookClient

        environment = {**os.environ, "EMOSHARE_ROOT": str(root), "WANDB_MODE": "offline"}
        client = NotebookClient(notebook, timeout=600, kernel_name="python3")
        client.execute(cwd=str(ROOT / "notebooks"), env=environment)
        for cell in notebook.cells:
            cell["outputs"] = [output for output in cell.get("outputs", []) if not is_warning(output)]
    text, resources = MarkdownExporter().from_notebook_node(notebook, {"unique_key": name})
    for file, content in resources["outputs"].items():
        (folder / file).write_bytes(content)
    link = f"*A notebook of the repository: `notebooks/{name}.ipynb`.*"
    title, _, rest = text.strip().partition("\n")
    return f"{title}\n\n{link}\n{rest}\n"


def is_warning(output: nbformat.NotebookNode) -> bool:
    """Whether an output is for the person at this machine alone: it may name folders of it."""
    return output.get("name") == "stderr" or "site-packages" in str(output)


def main() -> None:
    folder, root = Path(__file__).parent / "reference", ROOT / "build/tutorials"
    folder.mkdir(exist_ok=True)
    root.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "emoshare", "train", "-m", "experiment=quickstart", "trainer.progress=false"]
    subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL)  # the runs of results.ipynb
    for name in NOTEBOOKS:
        (folder / f"{name}.md").write_text(page(name, folder, root), encoding="utf-8")


if __name__ == "__main__":
    main()
