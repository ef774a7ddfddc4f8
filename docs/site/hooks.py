"""What mkdocs cannot be told by mkdocs.yml: which files of the repository the site has.

Pages keep their paths in the repository, so that the links between them are those that GitHub
shows: README.md, docs/, and the other Markdown that these link to. What else they link to, such as
code, is copied beside them. The notebook is a page as well (from_notebook.py). The reference is
made by reference.py, where PuriFlow is installed: by the Python that PURIFLOW_PYTHON names, or the
first one of the path. The leaderboard is the folder that `puriflow site` made, if LEADERBOARD names
one; the results then lead to it.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
from from_notebook import as_page

ROOT = Path(__file__).parents[2]
TOPS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "config/README.md")
FOLDERS = ("docs", "resources")
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")
NOTEBOOK = "docs/own-images"
RESULTS, BOARD = "docs/results.md", "leaderboard"
TO_BOARD = f"""
## Leaderboard

[All records](../{BOARD}/index.html): tables, sweeps, and those of others that were taken in.
"""


def on_files(files: Files, config: Any) -> Files:
    """The site's files, in place of what lies in the folder that mkdocs looks into."""
    pages = [ROOT / name for name in TOPS]
    pages += [file for folder in FOLDERS for file in (ROOT / folder).glob("*.md")]
    made = generated() | {f"{NOTEBOOK}.md": as_page(ROOT / f"{NOTEBOOK}.ipynb")}
    texts = {str(page.relative_to(ROOT)): page.read_text() for page in pages} | made
    linked = {name for page, text in texts.items() for name in linked_files(page, text)}
    ours = sorted((texts.keys() - made.keys()) | (linked - texts.keys()))
    found = [File(name, str(ROOT), config.site_dir, config.use_directory_urls) for name in ours]
    found += [File.generated(config, name, content=text) for name, text in made.items()]
    found += [
        File.generated(config, f"{BOARD}/{file.relative_to(board)}", abs_src_path=str(file))
        for board in boards()
        for file in board.rglob("*")
        if file.is_file()
    ]
    return Files([*found, *(file for file in files if file.src_uri.startswith("assets/"))])


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """The text of a page; that of the results leads to the leaderboard, if there is one."""
    del config, files
    return markdown + TO_BOARD if page.file.src_uri == RESULTS and boards() else markdown


def linked_files(page: str, text: str) -> set[str]:
    """The files of the repository that a page links to, by their paths in it."""
    found = set()
    for target in LINK.findall(text):
        name = os.path.normpath(os.path.join(os.path.dirname(page), target))  # of folders not there
        if "://" not in target and (ROOT / name).is_file():
            found.add(name)
    return found


def boards() -> list[Path]:
    """The folder of the leaderboard, if there is one."""
    return [Path(folder)] if (folder := os.environ.get("LEADERBOARD")) else []


def generated() -> dict[str, str]:
    """The pages that are made of the code."""
    python = os.environ.get("PURIFLOW_PYTHON", "python")
    command = [python, str(Path(__file__).with_name("reference.py"))]
    made = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(made.stdout)
