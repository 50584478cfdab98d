"""The verbs about one network without a search: `estimate`, `train`, `import`."""

from pathlib import Path

from trec_dse import plugins
from trec_dse.cli.arguments._shared import Verbs, add_cycles, add_data, add_target, add_verb, positive

_PRESETS = ", ".join(plugins.data_names("presets", ".json"))
_CANDIDATE_HELP = f"the path of a .json, as a study's folder holds them, or a preset ({_PRESETS})"


def estimate(verbs: Verbs) -> None:
    """What a candidate costs, untrained."""
    parser = add_verb(
        verbs,
        "estimate",
        "SRAM, Flash, MACs, cycles and a buffer table, without training or toolchain",
        "trec-dse estimate candidate.json --target nucleo-f746zg",
    )
    parser.add_argument(
        "what",
        metavar="SPACE|CANDIDATE",
        help=f"a search space, sampled at random, or one candidate: {_CANDIDATE_HELP}",
    )
    add_target(parser)
    add_cycles(parser)
    parser.add_argument("--samples", type=positive, default=10, metavar="N", help="candidates of a space (default 10)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the samples (default 0)")
    add_data(parser)


def train(verbs: Verbs) -> None:
    """One candidate, no search."""
    parser = add_verb(
        verbs,
        "train",
        "train and price one candidate, no search",
        "trec-dse train candidate.json --target stm32f469i-disco --out runs/one",
    )
    parser.add_argument("candidate", metavar="CANDIDATE", help=_CANDIDATE_HELP)
    add_target(parser)
    add_cycles(parser)
    parser.add_argument("--out", type=Path, default=Path("runs/one"), metavar="DIR", help="default %(default)s")
    add_data(parser)


def import_model(verbs: Verbs) -> None:
    """A model from elsewhere."""
    parser = add_verb(
        verbs,
        "import",
        "turn an ONNX file or a torch module into a network to estimate, train, search and export",
        "trec-dse import model.onnx --dataset cifar10 --pixels 0..1",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="an .onnx file, or FILE.py:FUNCTION, which is run and returns a torch module"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder to write (default imported/NAME)")
    parser.add_argument("--input", metavar="HxWxC", help="size of the images; only a torch module needs to be told")
    names = ", ".join(name for name in plugins.names("datasets"))
    parser.add_argument(
        "--dataset", metavar="D", help=f"{names} (default: the one of the network's shape, else npz, your own images)"
    )
    parser.add_argument(
        "--pixels",
        default="",
        metavar="P",
        help="how the network reads images: 0..1, -1..1, 0..255, imagenet, or MEAN,.../STD,... of image / 255 "
        "(default: by mean and deviation of the data set)",
    )
