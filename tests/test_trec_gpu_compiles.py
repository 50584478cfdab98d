"""The GPU's kernels compile for real GPUs, which takes none: they fit shared memory and, from Hopper on, registers.

The interpreter accepts what the compiler does not. This file runs itself in a process of its own, without interpreter.
"""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

SHARED_BYTES = 99 * 1024  # two programs at a time on every multiprocessor since compute capability 8.0
STACK_BYTES = 64
# channels, size, outputs, kernel, L, H: tiles that are full, and tiles with a rest
SHAPES = {"full": (128, 16, 128, 3, 128, 5), "with a rest": (3, 32, 64, 5, 15, 5)}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize("capability", [80, 90])
def test_every_kernel_compiles_for_a_gpu_and_fits_it(capability: int) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, __file__, str(capability)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [re.fullmatch(r"(\w+) shared (\d+) stack (\d+)", line) for line in done.stdout.splitlines()]
    found = [match.groups() for match in lines if match]
    kernels = {"sign", "sign_and_average", "find_steepness", "average", "recover", "sum_outputs", "learn_from_all"}
    kernels |= {"weigh_neighbours", "learn_from_neighbours", "sum_hash", "pass_to_images"}
    assert {name for name, _, _ in found} == kernels
    for name, shared, stack in found:
        assert int(shared) <= SHARED_BYTES, f"{name} takes {shared} bytes of shared memory"
        if capability >= 90:  # older tensor cores take operands from registers alone: sign_and_average spills there
            assert int(stack) <= STACK_BYTES, f"{name} spills: {stack} bytes of stack"


def _signature(names: list[str], values: tuple[Any, ...]) -> tuple[dict[str, str], dict[str, Any], dict[Any, Any]]:
    """Types, constants and alignments of a launch, as Triton would specialise it."""
    import torch  # noqa: PLC0415

    pointers = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int32: "*i32", torch.int64: "*i64"}
    types: dict[str, str] = {}
    constants: dict[str, Any] = {}
    aligned: dict[Any, Any] = {}
    for index, (name, value) in enumerate(zip(names, values, strict=False)):
        if isinstance(value, torch.Tensor):
            types[name] = pointers[value.dtype]
        elif isinstance(value, float):
            types[name] = "fp32"
        elif value == 1:
            types[name], constants[name] = "constexpr", 1
        else:
            types[name] = "i32"
        if isinstance(value, torch.Tensor) or (types[name] == "i32" and value % 16 == 0):
            aligned[(index,)] = [["tt.divisibility", 16]]
    return types, constants, aligned


def _compile(kernel: Any, capability: int, values: tuple[Any, ...], constants: dict[str, Any]) -> str:
    """A line that says what the kernel takes of a multiprocessor."""
    import triton  # noqa: PLC0415
    from triton.backends import nvidia  # noqa: PLC0415
    from triton.backends.compiler import GPUTarget  # noqa: PLC0415
    from triton.compiler import ASTSource  # noqa: PLC0415

    types, known, aligned = _signature(kernel.arg_names, values)
    options = {"num_warps": constants.pop("num_warps", 4)}
    types |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=kernel, signature=types, constexprs=known | constants, attrs=aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    tool = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    stack = re.search(r"STACK:(\d+)", usage)
    assert stack
    return f"{kernel.__name__} shared {compiled.metadata.shared} stack {stack.group(1)}"


def _compile_all(capability: int) -> None:
    """Compile what steps of several layers launch instead of running it."""
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415
    from triton.runtime.jit import JITFunction  # noqa: PLC0415

    from trec_dse.candidate import TrecConfig  # noqa: PLC0415
    from trec_dse.trec import on_gpu  # noqa: PLC0415
    from trec_dse.trec.conv import TrecConv2d  # noqa: PLC0415
    from trec_dse.trec.gpu.step import _OPERANDS, Step  # noqa: PLC0415

    def launcher(kernel: Any, _: object) -> Any:
        def launch(*values: Any, **constants: Any) -> None:
            sys.stdout.write(_compile(kernel, capability, values, constants) + "\n")
            for name, value in zip(kernel.arg_names, values, strict=False):
                if name == "codes":
                    value.zero_()

        return launch

    JITFunction.__getitem__ = launcher
    on_gpu.refusal = lambda x, config: None
    Step._operand = property(lambda self: _OPERANDS[self.x.dtype])  # type: ignore[assignment]
    Step._precision = property(lambda self: "tf32")  # type: ignore[assignment]
    Step._hash_precision = property(lambda self: "tf32x3")  # type: ignore[assignment]
    for channels, size, outputs, kernel, length, bits in SHAPES.values():
        for scope, gradient, dtype in (
            ("per_slice", "none", torch.float32),
            ("per_slice", "soft", torch.float32),
            ("per_slice", "soft", torch.bfloat16),
            ("kernel_reuse", "soft", torch.float32),
            ("strip_shared", "neighbours", torch.bfloat16),
        ):
            config = TrecConfig(bits + (gradient == "neighbours") * 3, length, scope)  # type: ignore[arg-type]
            conv = nn.Conv2d(channels, outputs, kernel, padding=kernel // 2)
            layer = TrecConv2d.from_conv(conv, config, hash_gradient=gradient, kernel_surrogate=True)  # type: ignore[arg-type]
            x = torch.randn(1, channels, size, size, requires_grad=True)
            with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
                torch.autograd.backward(layer.train()(x).float().sum())


if __name__ == "__main__":
    _compile_all(int(sys.argv[1]))
