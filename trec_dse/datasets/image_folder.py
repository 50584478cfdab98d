"""Photographs of one's own in the data directory: a folder per class, all together or within train/ and test/.

    DIR/cat/1.png  DIR/dog/1.png             split here
    DIR/train/cat/1.png  DIR/test/cat/2.png  (and validation/, or val/)

The images must have one size, or ``DIR/images.toml`` says to which they are brought: ``height = 64``, ``width = 64``
and, if they shall be grey, ``channels = 1``. Needs Pillow: ``pip install 'trec_dse[images]'``.
"""

import importlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trec_dse import codec
from trec_dse.datasets._files import PublishedFile
from trec_dse.datasets._types import Dataset, Images, Split, complete
from trec_dse.errors import DatasetError

FILES: tuple[PublishedFile, ...] = ()
NEEDS_FOLDER = True
FORM = "images.toml"
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".webp")
_GREY, _COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


@dataclass(frozen=True)
class Form:
    """What every image becomes: the middle of it in that aspect ratio, scaled; 3 channels are RGB, 1 is grey."""

    height: int
    width: int
    channels: int = 3


def load(root: Path) -> Dataset:
    """The splits that there are folders for; a missing one is a stratified fifth of the training images."""
    is_split = (root / "train").is_dir()
    train_folder = root / "train" if is_split else root
    classes = [path.name for path in _folders(train_folder)]
    if len(classes) < 2:
        raise DatasetError(
            f"{train_folder}: needed a folder of images for each of two or more classes, "
            f"found {', '.join(classes) or 'none'}"
        )
    form = _asked_form(root / FORM) or _form_of_first(train_folder, classes)
    train = _split(train_folder, classes, form)
    others: list[Split | None] = [None, None]
    if is_split:
        for i, names in enumerate((("validation", "val"), ("test",))):
            folder = next((root / name for name in names if (root / name).is_dir()), None)
            others[i] = None if folder is None else _split(folder, classes, form)
    return Dataset.of("image_folder", *complete(train, others[0], others[1]))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _asked_form(path: Path) -> tuple[Form, bool] | None:
    """The form that `images.toml` asks for, and that images may be scaled to it; None without such a file."""
    if not path.is_file():
        return None
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise DatasetError(f"{path}: not readable TOML: {problem}") from problem
    form = codec.structure(data, Form, str(path), DatasetError)
    if min(form.height, form.width) < 1 or form.channels not in (1, 3):
        raise DatasetError(f"{path}: {form} asked for; height and width must be at least 1, channels 1 or 3")
    return form, True


def _form_of_first(folder: Path, classes: list[str]) -> tuple[Form, bool]:
    """The form of the first image, which all others must then have."""
    first = _files(folder / classes[0])[0]
    with _opened(first) as image:
        return Form(image.height, image.width, 1 if image.mode in _GREY else 3), False


def _split(folder: Path, classes: list[str], form: tuple[Form, bool]) -> Split:
    unknown = [path.name for path in _folders(folder) if path.name not in classes]
    if unknown:
        raise DatasetError(f"{folder}: {', '.join(unknown)} found; the classes in training are {', '.join(classes)}")
    images: list[Images] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        for path in _files(folder / name):
            images.append(_read(path, *form))
            labels.append(label)
    return Split(np.stack(images), np.array(labels, dtype=np.int64))


def _files(folder: Path) -> list[Path]:
    """The images of one class, by name; other files are passed over."""
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not found:
        raise DatasetError(f"{folder}: no image found; known are {', '.join(_SUFFIXES)}")
    return found


def _read(path: Path, form: Form, may_scale: bool) -> Images:
    """The image as (height, width, channels) of `form`."""
    pillow = _pillow()
    with _opened(path) as image:
        if not may_scale and image.size != (form.width, form.height):
            raise DatasetError(
                f"{path}: {image.width}x{image.height} pixels found, {form.width}x{form.height} in the images before; "
                f"write height and width into {FORM} to have all of them brought to one size"
            )
        try:
            upright = pillow.ImageOps.exif_transpose(image) if may_scale else image
            pixels = upright.convert("L" if form.channels == 1 else "RGB")
            if may_scale:
                size = (form.width, form.height)
                pixels = pillow.ImageOps.fit(pixels, size, method=pillow.Image.Resampling.BILINEAR)
        except (OSError, SyntaxError, ValueError) as problem:
            raise DatasetError(f"{path}: damaged image: {problem}") from problem
        array: Images = np.asarray(pixels, dtype=np.uint8).reshape(form.height, form.width, form.channels)
        return array


def _opened(path: Path) -> Any:
    """A Pillow image whose header has been read; its pixels are read when they are used."""
    pillow = _pillow()
    try:
        image = pillow.Image.open(path)
    except (OSError, SyntaxError, ValueError, pillow.Image.DecompressionBombError) as problem:
        raise DatasetError(f"{path}: not an image: {problem}") from problem
    if image.mode not in (*_GREY, *_COLOUR):
        mode = image.mode
        image.close()
        raise DatasetError(f"{path}: pixels of mode {mode!r} found; eight bits per channel can be read")
    return image


def _pillow() -> Any:
    try:
        importlib.import_module("PIL.Image")
        importlib.import_module("PIL.ImageOps")
        return importlib.import_module("PIL")
    except ImportError as problem:
        raise DatasetError(f"image folders need Pillow: {problem}; run: pip install 'trec_dse[images]'") from problem
