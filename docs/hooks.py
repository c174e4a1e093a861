"""The documentation site has the Markdown files of the checkout, too, and links to them are right in both places."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "hls/README.md")
"""Pages of the site that lie outside of docs/."""

OUTSIDE = re.compile(rf"\]\(\.\./((?:\.\./)*(?:{'|'.join(map(re.escape, PAGES))}))")


def on_files(files: Files, config: Any) -> Files:  # noqa: ANN401
    """Add the pages."""
    for page in PAGES:
        files.append(File.generated(config, page, content=(ROOT / page).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:  # noqa: ANN401
    """In the checkout the site's pages lie in docs/, in the site they lie beside these."""
    if page.file.src_uri in PAGES:
        return re.sub(r"\]\(((?:\.\./)*)docs/", r"](\1", markdown)
    return OUTSIDE.sub(r"](\1", markdown)
