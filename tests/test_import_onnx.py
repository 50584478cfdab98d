"""Networks from elsewhere: the same answers after the import, and all stages after it as for our own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from onnx_models import ds_cnn, export, mobilenet_like, node, resnet8_like, save, trained_looking
from torch import Tensor, nn

from trec_dse.candidate import Candidate, TrecPolicy
from trec_dse.datasets import Dataset
from trec_dse.datasets._types import placeholder
from trec_dse.errors import CandidateError, ModelError
from trec_dse.evaluate import as_read, host_network, untrained_graph
from trec_dse.graph import QuantizedGraph, Window
from trec_dse.importing.folder import Imported, import_module, import_onnx
from trec_dse.networks import brought_shape, build_model
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.depthwise_conv2d import DepthwiseConv2d
from trec_dse.quantize import quantize

Shape = tuple[int, int, int]
MODELS: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "resnet8": (resnet8_like, (16, 16, 3)),
    "mobilenet_v1": (mobilenet_like, (32, 32, 3)),
    "ds_cnn": (ds_cnn, (49, 10, 1)),
}


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run() -> None:
    torch.manual_seed(0)


def images_of(shape: Shape, n: int = 8) -> Tensor:
    return torch.randn(n, shape[2], shape[0], shape[1])


def nhwc(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1).contiguous()


def photos(imported: Imported) -> Dataset:
    return placeholder("npz", imported.blueprint.input_shape, imported.n_classes)


def built(imported: Imported, candidate: Candidate | None = None) -> nn.Module:
    chosen = candidate or imported.candidate("npz", "")
    return build_model(chosen, imported.blueprint.input_shape, imported.n_classes).eval()


def assert_c_and_oracle_agree(graph: QuantizedGraph, images: Tensor) -> None:
    levels = graph.quantize_images(nhwc(images).numpy())
    wanted = np.stack([graph.run(image)[graph.output].reshape(-1) for image in levels])
    with host_network(graph) as network:
        found = network.run(levels).outputs
    assert np.array_equal(found, wanted)
    assert len(np.unique(found, axis=0)) > 1


@pytest.mark.parametrize("name", MODELS)
def test_an_onnx_file_becomes_the_same_network_and_its_c_is_exact(name: str, tmp_path: Path) -> None:
    build, shape = MODELS[name]
    model = trained_looking(build(), shape)
    imported = import_onnx(export(model, shape, tmp_path / "model.onnx"), tmp_path / "out")
    images = images_of(shape)
    wanted = model(images)
    logits = built(imported)(images)
    answers = logits.softmax(dim=1) if imported.notes else logits
    torch.testing.assert_close(answers, wanted, rtol=1e-3, atol=1e-5)
    lowered = imported.graph.forward(nhwc(images))[imported.graph.nodes[-1].name]
    torch.testing.assert_close(lowered.reshape(logits.shape), logits, rtol=1e-3, atol=1e-4)
    assert_c_and_oracle_agree(quantize(imported.graph, nhwc(images)), images[:4])


@pytest.mark.parametrize("name", MODELS)
def test_a_torch_module_keeps_its_batch_norms_and_names(name: str, tmp_path: Path) -> None:
    build, shape = MODELS[name]
    path = tmp_path / "mine.py"
    module, function = build.__module__, build.__name__
    path.write_text(
        f"import torch\nfrom {module} import {function}, trained_looking\n"
        f"torch.manual_seed(3)\nMODEL = trained_looking({function}(), {shape})\n\ndef network():\n    return MODEL\n"
    )
    imported = import_module(f"{path}:network", shape, tmp_path / "out")
    torch.manual_seed(3)
    model = trained_looking(build(), shape)
    images = images_of(shape)
    found = built(imported)
    answers = found(images).softmax(dim=1) if imported.notes else found(images)
    torch.testing.assert_close(answers, model(images), rtol=1e-3, atol=1e-5)
    assert "conv1" in dict(found.named_modules())
    assert sum(isinstance(m, nn.BatchNorm2d) for m in found.modules()) == sum(
        isinstance(m, nn.BatchNorm2d) for m in model.modules()
    )


@pytest.mark.parametrize("name", MODELS)
def test_it_is_pruned_and_clustered_like_a_network_of_ours(name: str, tmp_path: Path) -> None:
    build, shape = MODELS[name]
    imported = import_onnx(export(trained_looking(build(), shape), shape, tmp_path / "m.onnx"), tmp_path / "out")
    candidate = replace(imported.candidate("npz", ""), trec=TrecPolicy(2, 2), pruning={"*": 0.5})
    whole = untrained_graph(imported.candidate("npz", ""), photos(imported))
    small = untrained_graph(candidate, photos(imported))
    weights = [sum(w["weights"].size for w in graph.weights.values() if "weights" in w) for graph in (whole, small)]
    assert weights[1] < 0.7 * weights[0]
    assert any(op.op.kind == "trec_conv2d" for op in small.nodes)
    assert_c_and_oracle_agree(small, images_of(shape, 4))


def test_padding_that_differs_between_the_sides_goes_into_the_window(tmp_path: Path) -> None:
    shape = (49, 10, 1)
    imported = import_onnx(export(trained_looking(ds_cnn(), shape), shape, tmp_path / "m.onnx"), tmp_path / "out")
    first, second = imported.graph.nodes[0].op, imported.graph.nodes[1].op
    # 4 rows above and 5 below; 49 + 9 - 10 is 48, so 25 positions; 10 + 2 - 4 is 8, so 5
    assert first == Conv2d(16, Window((10, 4), (2, 2), (4, 1), (1, 0)), "relu6")
    assert first.output_shape(shape) == (25, 5, 16)
    assert isinstance(second, DepthwiseConv2d)
    assert imported.notes == ("Softmax at the end is dropped: it changes no answer",)


def test_layers_are_named_after_their_weights(tmp_path: Path) -> None:
    shape = (16, 16, 3)
    imported = import_onnx(export(trained_looking(resnet8_like(), shape), shape, tmp_path / "m.onnx"), tmp_path / "out")
    names = [n.name for n in imported.graph.nodes]
    assert names[:4] == ["conv1", "stage1_block1_conv1", "stage1_block1_conv2", "stage1_block1.add"]
    assert imported.convolutions[0] == "conv1"


RANDOM = np.random.default_rng(0)


def weights(*shape: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return RANDOM.standard_normal(shape).astype(np.float32)


def integers(*values: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
    return np.array(values, dtype=np.int64)


def same_answers(path: Path, tmp_path: Path, dims: Shape = (2, 4, 4)) -> Imported:
    """The import answers as the package onnx itself computes the file."""
    imported = import_onnx(path, tmp_path / "out")
    images = torch.randn(3, *dims).numpy()
    evaluator = ReferenceEvaluator(str(path))
    wanted = np.concatenate([next(iter(evaluator.run(None, {"x": image[None]}))).reshape(1, -1) for image in images])
    order = images if imported.blueprint.input_shape == (dims[1], dims[2], dims[0]) else images.transpose(0, 3, 1, 2)
    found = built(imported)(torch.from_numpy(np.ascontiguousarray(order)))
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-4, atol=1e-5)
    return imported


def test_images_in_hwc_order_need_no_transpose(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", ["x"], "nchw", perm=[0, 3, 1, 2]),
        node("Conv", ["nchw", "w"], "c", kernel_shape=[3, 3], auto_pad="SAME_UPPER", strides=[2, 2]),
        node("Relu", ["c"], "r"),
        node("Transpose", ["r"], "nhwc", perm=[0, 2, 3, 1]),
        node("Reshape", ["nhwc", "shape"], "flat"),
        node("MatMul", ["flat", "m"], "product"),
        node("Add", ["product", "b"], "y"),
    ]
    constants = {
        "w": weights(3, 2, 3, 3),
        "shape": integers(1, -1),
        "m": weights(12, 5),
        "b": weights(5),
    }
    imported = same_answers(save(tmp_path / "m.onnx", nodes, constants, (1, 4, 4, 2)), tmp_path, (4, 4, 2))
    assert imported.blueprint.input_shape == (4, 4, 2)
    # an even size under a stride of 2 is padded below and to the right only
    assert imported.graph.nodes[0].op == Conv2d(3, Window((3, 3), (2, 2), (0, 0), (1, 1)), "relu")


def test_pooling_sums_and_joins_answer_alike(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w", "b"], "a", pads=[1, 1, 1, 1]),
        node("Clip", ["a", "zero", "six"], "a6"),
        node("MaxPool", ["a6"], "p", kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
        node("Conv", ["p", "d"], "q", group=3),
        node("BatchNormalization", ["q", "gamma", "beta", "mean", "var"], "n"),
        node("Add", ["n", "p"], "s"),
        node("Relu", ["s"], "sr"),
        node("Concat", ["sr", "p"], "j", axis=1),
        node("AveragePool", ["j"], "v", kernel_shape=[2, 1], strides=[1, 1], ceil_mode=1),
        node("ReduceMean", ["v"], "g", axes=[2, 3], keepdims=0),
        node("Gemm", ["g", "f", "fb"], "h", transB=1),
        node("Dropout", ["h"], "i"),
        node("Identity", ["i"], "y"),
    ]
    constants = {
        "w": weights(3, 2, 3, 3),
        "b": weights(3),
        "zero": np.array([0], dtype=np.float32),
        "six": np.array([6], dtype=np.float32),
        "d": weights(3, 1, 1, 1),
        "gamma": weights(3),
        "beta": weights(3),
        "mean": weights(3),
        "var": np.abs(weights(3)) + np.float32(0.5),
        "f": weights(4, 6),
        "fb": weights(4),
    }
    same_answers(save(tmp_path / "m.onnx", nodes, constants), tmp_path)


def test_a_shape_that_the_exporter_computes_is_folded(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], "c"),
        node("Shape", ["c"], "s"),
        node("Gather", ["s", "first"], "n", axis=0),
        node("Unsqueeze", ["n", "axis"], "n1"),
        node("Concat", ["n1", "rest"], "target", axis=0),
        node("Reshape", ["c", "target"], "f"),
        node("Transpose", ["m"], "mt", perm=[1, 0]),
        node("Gemm", ["f", "mt"], "y", transB=1),
    ]
    constants = {
        "w": weights(3, 2, 2, 2),
        "first": np.array(0, dtype=np.int64),
        "axis": integers(0),
        "rest": integers(-1),
        "m": weights(27, 4),
    }
    same_answers(save(tmp_path / "m.onnx", nodes, constants, ("batch", 2, 4, 4)), tmp_path)


def test_another_classifier_is_trained_anew_and_only_if_asked_for(tmp_path: Path) -> None:
    shape = (16, 16, 3)
    imported = import_onnx(export(trained_looking(resnet8_like(), shape), shape, tmp_path / "m.onnx"), tmp_path / "out")
    candidate = imported.candidate("npz", "")
    with pytest.raises(CandidateError, match="tells 10 classes apart, the data set has 3"):
        build_model(candidate, shape, 3)
    with pytest.raises(CandidateError, match="reads images of 16x16x3; those of the data set are 8x8x1"):
        build_model(candidate, (8, 8, 1), 10)
    anew = replace(candidate, network_args={**candidate.network_args, "new_classifier": True})
    assert build_model(anew, shape, 3)(torch.zeros(1, 3, 16, 16)).shape == (1, 3)
    assert brought_shape(candidate) == (shape, 10)
    assert brought_shape(Candidate("digits", "tiny")) is None


def test_pixels_are_scaled_as_the_network_was_trained(tmp_path: Path) -> None:
    shape = (16, 16, 3)
    imported = import_onnx(export(trained_looking(resnet8_like(), shape), shape, tmp_path / "m.onnx"), tmp_path / "out")
    images = np.full((1, 1, 1, 3), 255, dtype=np.uint8)
    for pixels, white in (("0..1", 1.0), ("-1..1", 1.0), ("0..255", 255.0), ("0,0.5,0.25/0.5,0.5,0.5", 2.0)):
        seen = as_read(photos(imported), imported.candidate("npz", pixels)).normalise(images)
        assert float(seen[0, 0, 0, 0]) == pytest.approx(white)
    imagenet = as_read(photos(imported), imported.candidate("npz", "imagenet")).normalise(images)
    assert float(imagenet[0, 2, 0, 0]) == pytest.approx((1 - 0.406) / 0.225)
    with pytest.raises(CandidateError, match=r"choose from 0\.\.1"):
        as_read(photos(imported), imported.candidate("npz", "0..2"))
    with pytest.raises(CandidateError, match="deviations numbers above 0"):
        as_read(photos(imported), imported.candidate("npz", "0,0,0/1,1,0"))


def test_a_folder_that_changed_is_not_the_network_that_was_imported(tmp_path: Path) -> None:
    shape = (16, 16, 3)
    imported = import_onnx(export(trained_looking(resnet8_like(), shape), shape, tmp_path / "m.onnx"), tmp_path / "out")
    file = tmp_path / "out" / "network.json"
    file.write_text(file.read_text().replace("1e-05", "1e-06").replace('"format": 1', '"format": 1 '))
    with pytest.raises(ModelError, match="the candidate was made for"):
        built(imported)
    loose = Candidate("npz", "imported", {"path": str(tmp_path / "out")})
    built(imported, loose)
    file.write_text(file.read_text().replace('"out_features": 10', '"out_features": 1000000000000'))
    with pytest.raises(ModelError, match="do not belong together"):
        built(imported, loose)
    file.unlink()
    with pytest.raises(ModelError, match="import the network again"):
        built(imported, loose)


def test_the_seed_leaves_imported_weights_alone(tmp_path: Path) -> None:
    shape = (16, 16, 3)
    imported = import_onnx(export(trained_looking(resnet8_like(), shape), shape, tmp_path / "m.onnx"), tmp_path / "out")
    candidate = imported.candidate("npz", "")
    seeds = [replace(candidate, recipe=replace(candidate.recipe, seed=seed)) for seed in (0, 1)]
    first, second = (built(imported, each).state_dict() for each in seeds)
    assert all(torch.equal(first[name], second[name]) for name in first)
