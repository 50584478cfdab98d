"""What an import refuses: a list of all that has no counterpart, and no surprise from broken or hostile files."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx_models import ds_cnn, export, node, resnet8_like, save
from torch import Tensor, nn

from trec_dse.cli import main
from trec_dse.errors import ModelError, UnsupportedError
from trec_dse.importing import onnx_file
from trec_dse.importing.folder import import_module, import_onnx

ONE = np.ones((3, 2, 1, 1), dtype=np.float32)
FLAT = node("Flatten", ["g"], "y")


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return export(resnet8_like().eval(), (16, 16, 3), tmp_path_factory.mktemp("m") / "whole.onnx").read_bytes()


@pytest.fixture
def whole(content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "whole.onnx"
    path.write_bytes(content)
    return path


def refused(path: Path, tmp_path: Path) -> str:
    with pytest.raises((ModelError, UnsupportedError)) as caught:
        import_onnx(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    return str(caught.value)


def edited(path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def test_everything_that_is_missing_is_listed_at_once_with_its_place(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], "a", dilations=[2, 2]),
        node("Sigmoid", ["x"], "b"),
        node("LeakyRelu", ["b"], "c"),
        node("Conv", ["x", "w"], "d", auto_pad="SAME_UPPER"),
        node("Clip", ["d", "low", "high"], "e"),
        node("GlobalAveragePool", ["x"], "g"),
        FLAT,
    ]
    constants = {"w": ONE, "low": np.array([-1], dtype=np.float32), "high": np.array([1], dtype=np.float32)}
    text = refused(save(tmp_path / "m.onnx", nodes, constants), tmp_path)
    assert "4 nodes have no counterpart here" in text
    assert "node 'the_a' (Conv, dilations): is (2, 2); only 1 has a kernel" in text
    assert "node 'the_b' (Sigmoid): has no int8 kernel" in text
    assert "node 'the_c' (LeakyRelu): has no int8 kernel" in text
    assert "node 'the_e' (Clip, min, max): cuts at -1 and 1" in text
    assert "supported are Add, AveragePool, BatchNormalization" in text


REFUSED: list[tuple[list[onnx.NodeProto], str]] = [
    ([node("Conv", ["x", "x"], "g")], "is computed by the network; needed a constant"),
    ([node("Conv", ["x", "w"], "g", group=2)], "weights for 4 input channels, the input has 2"),
    ([node("Conv", ["x", "w"], "g", strides=[0, 1])], "strides"),
    ([node("Conv", ["x", "w"], "g", pads=[0, 0, -1, 0])], "pads"),
    ([node("Conv", ["x", "line"], "g")], "has 1 dimensions, needed 4: only images have a kernel"),
    ([node("MaxPool", ["x"], "g", kernel_shape=[9, 9])], "its output would be 2x-4x-4"),
    ([node("AveragePool", ["x"], "g", kernel_shape=[2, 2], pads=[1, 1, 0, 0])], "average pooling has none"),
    ([node("MaxPool", ["x"], "g", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)], "rounds the size"),
    ([node("Concat", ["x", "x"], "g", axis=2)], "only channels"),
    ([node("Add", ["x", "one"], "g")], "adds a constant to what is no convolution"),
    ([node("Mul", ["x", "x"], "g")], "(Mul): has no int8 kernel"),
    ([node("Transpose", ["x"], "g", perm=[0, 1, 3, 2])], "only between"),
    ([node("Transpose", ["x"], "t", perm=[0, 2, 3, 1]), node("Relu", ["t"], "g")], "(H, W, C) order"),
    ([node("Flatten", ["x"], "f"), node("Softmax", ["f"], "s"), node("Relu", ["s"], "g")], "follows a softmax"),
    ([node("Pad", ["x", "pads"], "g")], "only height and width with zeros"),
    ([node("Gemm", ["x", "square"], "g")], "flatten it first"),
    ([node("QLinearConv", ["x"], "g")], "export the model in QDQ form"),
    ([node("ReduceMean", ["x"], "g", axes=[1])], "only the mean over height and width"),
]


@pytest.mark.parametrize(("nodes", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_has_no_counterpart_is_refused_with_the_reason(
    nodes: list[onnx.NodeProto], message: str, tmp_path: Path
) -> None:
    constants = {
        "w": ONE,
        "line": np.ones(2, dtype=np.float32),
        "one": np.ones(1, dtype=np.float32),
        "pads": np.array([0, 1, 0, 0, 0, 1, 0, 0], dtype=np.int64),
        "square": np.ones((2, 2), dtype=np.float32),
    }
    assert message in refused(save(tmp_path / "m.onnx", [*nodes, FLAT], constants), tmp_path)


def test_layers_that_only_the_next_stage_refuses_are_refused_at_the_import(tmp_path: Path) -> None:
    nodes = [node("MaxPool", ["x"], "m", kernel_shape=[2, 2]), node("Relu", ["m"], "g"), FLAT]
    assert "a ReLU must directly follow" in refused(save(tmp_path / "m.onnx", nodes, {}), tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_short_is_no_network(whole: Path, share: float, tmp_path: Path) -> None:
    size = whole.stat().st_size
    os.truncate(whole, int(share * size))
    text = refused(whole, tmp_path)
    assert "cut short" in text or "holds no node" in text or "claims" in text or "outputs found" in text


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_file_gives_a_message_or_a_network_never_a_crash(whole: Path, seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    damaged = bytearray(whole.read_bytes())
    for place in random.integers(0, len(damaged) if seed % 2 else 4000, 8):  # the structure comes first
        damaged[place] = int(random.integers(0, 256))
    whole.write_bytes(bytes(damaged))
    try:
        import_onnx(whole, tmp_path / "out")
    except (ModelError, UnsupportedError) as problem:
        assert str(whole) in str(problem) or "layer" in str(problem) or "network" in str(problem)


def test_a_header_that_claims_ten_gigabytes_is_seen_before_anything_is_allocated(whole: Path, tmp_path: Path) -> None:
    def claim(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].dims[:] = [50_000, 50_000, 1, 1]

    assert "claims 10,000,000,000 bytes" in refused(edited(whole, claim), tmp_path)

    def claim_less(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].dims[:] = [1000, 1000, 1, 1]

    assert "claims 4,000,000 bytes as [1000, 1000, 1, 1], the file holds" in refused(
        edited(whole, claim_less), tmp_path
    )


def test_a_file_of_ten_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 10 * 10**9)  # sparse: takes no room
    assert "10,000,000,000 bytes; models of more than" in refused(path, tmp_path)


def test_weights_beside_the_model_stay_in_its_folder(whole: Path, tmp_path: Path) -> None:
    def external(location: str, offset: int = 0) -> Callable[[onnx.ModelProto], None]:
        def change(model: onnx.ModelProto) -> None:
            tensor = model.graph.initializer[0]
            (tmp_path / "weights.bin").write_bytes(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", location), ("offset", str(offset))):
                tensor.external_data.add(key=key, value=value)

        return change

    (tmp_path / "secret").mkdir()
    content = whole.read_bytes()
    import_onnx(edited(whole, external("weights.bin")), tmp_path / "beside")
    for location in ("../outside.bin", "/etc/passwd", "", "no.bin", "secret"):
        whole.write_bytes(content)
        text = refused(edited(whole, external(location)), tmp_path)
        assert "is no file in the model's folder" in text
    whole.write_bytes(content)
    assert "claims" in refused(edited(whole, external("weights.bin", offset=4)), tmp_path)
    outside = tmp_path.parent / f"{tmp_path.name}-outside.bin"
    outside.write_bytes(b"0" * 10_000)
    (tmp_path / "link.bin").symlink_to(outside)
    whole.write_bytes(content)
    assert "is no file in the model's folder" in refused(edited(whole, external("link.bin")), tmp_path)


def test_weights_that_are_no_numbers_are_refused(whole: Path, tmp_path: Path) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[1]
        array = onnx.numpy_helper.to_array(tensor).copy()
        array.reshape(-1)[0] = np.nan
        tensor.raw_data = array.tobytes()

    assert "holds 1 values that are no finite numbers" in refused(edited(whole, spoil), tmp_path)


def test_a_cycle_is_named(tmp_path: Path) -> None:
    nodes = [node("Add", ["x", "b"], "a"), node("Relu", ["a"], "b"), node("GlobalAveragePool", ["b"], "g"), FLAT]
    text = refused(save(tmp_path / "m.onnx", nodes, {}), tmp_path)
    assert "node 'the_a' (Add) reads 'b', which is made only later: the graph has a cycle" in text
    text = refused(save(tmp_path / "m.onnx", [node("Relu", ["nothing"], "g"), FLAT], {}), tmp_path)
    assert "reads 'nothing', which is nowhere" in text


@pytest.mark.parametrize("dims", [(1, 2, "height", "width"), (1, None, 4, 4), (4,), (1, 2, 4)])
def test_sizes_that_are_not_fixed_are_refused(dims: tuple[int | str | None, ...], tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", [node("GlobalAveragePool", ["x"], "g"), FLAT], {}, dims)
    assert "needed four dimensions, images first, the others fixed" in refused(path, tmp_path)


def test_models_of_another_kind_are_refused(whole: Path, tmp_path: Path) -> None:
    def older(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = 3

    def with_functions(model: onnx.ModelProto) -> None:
        model.functions.add(name="f", domain="own")

    def two_outputs(model: onnx.ModelProto) -> None:
        model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))

    content = whole.read_bytes()
    for change, message in (
        (older, r"operator set [3] found"),
        (with_functions, "functions of its own"),
        (two_outputs, "1 inputs and 2 outputs found"),
    ):
        whole.write_bytes(content)
        assert message in refused(edited(whole, change), tmp_path)
    assert "cannot be read" in refused(tmp_path / "absent.onnx", tmp_path)


def test_too_many_nodes_are_not_read(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MOST_NODES", 5)
    assert "nodes; more than 5 are not read" in refused(whole, tmp_path)


MODULES = """
import torch
from torch import nn

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, dilation=2)
        self.gelu = nn.GELU()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        y = self.gelu(self.conv(x))
        return self.fc(torch.sigmoid(torch.mean(x, (2, 3))))

class Fork(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x

def odd():
    return Odd()

def fork():
    return Fork()

def number():
    return 3
"""


def test_a_torch_module_is_refused_with_the_same_list(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MODULES)

    def text(function: str) -> str:
        with pytest.raises((ModelError, UnsupportedError)) as caught:
            import_module(f"{path}:{function}", (8, 8, 3), tmp_path / "out")
        return str(caught.value)

    assert "node 'conv' (Conv2d, dilation): is (2, 2)" in text("odd")
    assert "node 'sigmoid' (sigmoid): has no int8 kernel" in text("odd")
    assert "cannot be traced" in text("fork")
    assert "gave 3; needed a function" in text("number")
    assert "gave None" in text("absent")
    with pytest.raises(ModelError, match=r"needed an \.onnx file, or"):
        import_module(f"{tmp_path / 'no.py'}:f", (8, 8, 3), tmp_path / "out")


class Hidden(nn.Module):
    """Its trace takes another way than its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(torch.flatten(x, 1))
        return y + y if isinstance(x, Tensor) else y


def test_the_command_writes_a_candidate_and_a_space_or_says_why_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    export(resnet8_like().eval(), (32, 32, 3), tmp_path / "good.onnx")
    assert main(["import", "good.onnx", "--pixels", "0..1"]) == 0
    assert "classes: data set cifar10" in capsys.readouterr().out
    candidate = json.loads((tmp_path / "imported" / "good" / "candidate.json").read_text())
    assert candidate["network"] == "imported"
    assert candidate["network_args"]["pixels"] == "0..1"
    assert main(["import", "good.onnx", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["input_shape"] == [32, 32, 3]
    space = str(tmp_path / "imported" / "good" / "space.py")
    assert main(["estimate", space, "--target", "stm32f469i-disco", "--samples", "2"]) == 0
    assert main(["import", "absent.onnx"]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert main(["import", "mine.py:odd"]) == 2
    assert "give it as --input HxWxC" in capsys.readouterr().err
    save(tmp_path / "bad.onnx", [node("Sigmoid", ["x"], "g"), FLAT], {})
    assert main(["import", "bad.onnx"]) == 2
    assert "node 'the_g' (Sigmoid): has no int8 kernel" in capsys.readouterr().err


def test_a_module_that_answers_otherwise_than_its_trace_is_caught(tmp_path: Path) -> None:
    path = tmp_path / "hidden.py"
    path.write_text(f"from {Hidden.__module__} import Hidden\n\ndef build():\n    return Hidden()\n")
    with pytest.raises(ModelError, match="answers differently"):
        import_module(f"{path}:build", (2, 2, 1), tmp_path / "out")


def test_the_models_of_these_tests_hold_what_they_say() -> None:
    names = {type(module).__name__ for module in ds_cnn().modules()}
    assert {"ZeroPad2d", "ReLU6", "Softmax", "AvgPool2d"} <= names
