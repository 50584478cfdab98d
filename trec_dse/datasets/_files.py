"""Published data files: check them before use, and download them once."""

import hashlib
import http.client
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trec_dse.errors import DatasetError

_TIMEOUT_S = 60


@dataclass(frozen=True)
class PublishedFile:
    """A file as its authors publish it. `size` in bytes, `md5` 32 hex digits, `url` where it can be downloaded."""

    name: str
    size: int
    md5: str
    url: str = ""


def check_content(content: bytes, published: PublishedFile, where: str) -> None:
    """Raise DatasetError, naming `where`, unless `content` is the published one."""
    if len(content) != published.size:
        raise DatasetError(f"{where}: {len(content)} bytes found, {published.size} expected; fetch the file again")
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != published.md5:
        raise DatasetError(f"{where}: MD5 {found} found, {published.md5} expected; fetch the file again")


def read_published(folder: Path, published: PublishedFile) -> bytes:
    """The checked content of a published file in `folder`; raises DatasetError if it is missing or damaged."""
    path = folder / published.name
    try:
        content = path.read_bytes()
    except OSError as problem:
        hint = f"; it can be had from {published.url}" if published.url else ""
        raise DatasetError(f"{path}: {problem.strerror or problem}{hint}") from problem
    check_content(content, published, str(path))
    return content


def fetch_missing(files: Sequence[PublishedFile], folder: Path) -> None:
    """Download those of `files` that `folder` lacks; a file appears there only when it is whole and checked."""
    for published in files:
        if not (folder / published.name).exists():
            folder.mkdir(parents=True, exist_ok=True)
            _download(published, folder)


def _download(published: PublishedFile, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        partial = Path(scratch) / published.name
        try:
            with urllib.request.urlopen(published.url, timeout=_TIMEOUT_S) as answer, partial.open("wb") as file:
                shutil.copyfileobj(answer, file)
        except (OSError, http.client.HTTPException, urllib.error.URLError) as problem:
            raise DatasetError(
                f"{published.url}: download failed ({problem}); put {published.name} into {folder}, or give the "
                "folder that holds it as --data-dir"
            ) from problem
        read_published(Path(scratch), published)
        partial.replace(folder / published.name)
