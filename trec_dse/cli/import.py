"""`trec-dse import`: a network from elsewhere becomes one to search over."""

import argparse
import re
from pathlib import Path

from trec_dse import codec, plugins
from trec_dse.cli.output import print_json
from trec_dse.durable import write_text
from trec_dse.errors import DatasetError, ModelError
from trec_dse.importing.folder import Imported, import_module, import_onnx
from trec_dse.importing.space import space_text
from trec_dse.networks import parse_pixels

CANDIDATE, SPACE = "candidate.json", "space.py"
_OWN_IMAGES = "npz"


def run(args: argparse.Namespace) -> int:
    """Check and translate the model, write its folder, say what was found and what to do next."""
    folder = args.out or Path("imported") / _stem(args.model)
    found = _import(args.model, args.input, folder)
    parse_pixels(args.pixels, found.blueprint.input_shape[2])
    dataset = args.dataset or _dataset_like(found)
    candidate = found.candidate(dataset, args.pixels)
    write_text(folder / CANDIDATE, codec.to_json(candidate))
    write_text(folder / SPACE, space_text(candidate, found.convolutions))
    if args.json:
        print_json({**_summary(found), "dataset": dataset, "folder": str(folder), "notes": list(found.notes)})
        return 0
    _print(found, dataset, args.pixels)
    data = " --data-dir FOLDER" if dataset == _OWN_IMAGES else ""
    print(f"written      {folder}\nnext:")
    print(f"  trec-dse estimate {folder / CANDIDATE} --target stm32f469i-disco")
    print(f"  trec-dse train {folder / CANDIDATE} --target stm32f469i-disco{data}")
    print(f"  trec-dse search {folder / SPACE} --target stm32f469i-disco --trials 30{data}")
    return 0


def _stem(given: str) -> str:
    """A folder's name for a model file, or for FILE.py:FUNCTION."""
    return re.sub(r"[^\w.-]+", "_", Path(given.rpartition(":")[2] if ".py:" in given else given).stem) or "network"


def _import(given: str, size: str | None, folder: Path) -> Imported:
    if given.endswith(".onnx"):
        return import_onnx(Path(given), folder)
    if size is None:
        raise ModelError(f"{given}: a torch module does not tell the size of its images; give it as --input HxWxC")
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", size)
    if match is None or "0" in match.groups():
        raise ModelError(f"--input {size}: needed HxWxC, as in 32x32x3")
    height, width, channels = (int(n) for n in match.groups())
    return import_module(given, (height, width, channels), folder)


def _dataset_like(found: Imported) -> str:
    """The shipped data set with images and classes like the network's; images of one's own if there is none."""
    for name in plugins.names("datasets"):
        module = plugins.load("datasets", name, DatasetError)
        if getattr(module, "INPUT_SHAPE", None) == found.blueprint.input_shape and found.n_classes == module.N_CLASSES:
            return name
    return _OWN_IMAGES


def _summary(found: Imported) -> dict[str, object]:
    shapes = found.graph.shapes
    return {
        "sha256": found.sha256,
        "input_shape": list(found.blueprint.input_shape),
        "n_classes": found.n_classes,
        "n_layers": len(found.blueprint.layers),
        "n_parameters": found.n_parameters,
        "macs": sum(node.op.macs(*(shapes[name] for name in node.inputs)) for node in found.graph.nodes),
        "brings_scales": found.brings_scales,
    }


def _print(found: Imported, dataset: str, pixels: str) -> None:
    height, width, channels = found.blueprint.input_shape
    summary = _summary(found)
    print(f"network      {summary['n_layers']} layers, {found.n_parameters:,} parameters, {summary['macs']:,} MACs")
    print(f"images       {height}x{width}x{channels}, {found.n_classes} classes: data set {dataset}")
    print(f"pixels       {pixels or 'by mean and deviation of the data set; --pixels if it was trained otherwise'}")
    if found.brings_scales:
        print("int8         came quantised; its own scales are kept where nothing is trained")
    for note in found.notes:
        print(f"note         {note}")
