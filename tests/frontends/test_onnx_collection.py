"""The examples that onnx itself carries, with the outputs recorded for them: each is imported and
computes what was recorded, or is refused by a sentence that names the reason."""

from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
import pytest
import torch
from onnx import numpy_helper

import lipbounds as lb
from lipbounds.errors import ShapeError

ROOT = Path(onnx.__file__).parent / "backend/test/data"
FOLDERS = [
    *(ROOT / "pytorch-converted").iterdir(),
    *(ROOT / "pytorch-operator").iterdir(),
    *(ROOT / "simple").glob("test_*relu*"),
]
CONVERTED = 9  # most are of opset 6, which has other meanings of broadcasting
REFUSED = {
    "of type int64, not of floating-point": "Embedding Embedding_sparse non_float_params",
    "multiplies two values that both depend": "GLU GLU_dim params",
    "its slopes depend on other entries": "LogSoftmax Softmax Softmin log_softmax_dim3 "
    "log_softmax_lastdim softmax_functional_dim3 softmax_lastdim",
    # slopes of channels in opset 6, of the last entries since
    "does not fit": "PReLU_1d_multiparam PReLU_2d_multiparam PReLU_3d_multiparam",
    "has no finite slope": "PoissonNLLLLoss_no_reduce exp sqrt",
    "inputs and": "add_broadcast add_size1_broadcast add_size1_right_broadcast "
    "add_size1_singleton_broadcast addmm basic chunk concat2 max min mm pow "
    "symbolic_override_nested",
    "normalises each input": "symbolic_override",
}
REASONS = {name: reason for reason, names in REFUSED.items() for name in names.split()}


def recorded(folder: Path, kind: str) -> np.ndarray:
    return numpy_helper.to_array(onnx.load_tensor(folder / f"test_data_set_0/{kind}_0.pb"))


def converted(folder: Path, path: Path) -> Path:
    made = onnx.load(folder / "model.onnx")
    if made.opset_import[0].version < 7:
        made = onnx.version_converter.convert_version(made, CONVERTED)
    onnx.save(made, path)
    return path


def imported(folder: Path, path: Path) -> lb.Network:
    """The whole input where the file takes it so, one of its batch elsewhere."""
    try:
        return lb.from_onnx(path)
    except ShapeError as error:
        if "batch dimension must be 1" not in str(error):
            raise
    return lb.from_onnx(path, recorded(folder, "input").shape[1:])


@pytest.mark.parametrize("folder", sorted(FOLDERS), ids=lambda folder: folder.name)
def test_every_example_is_as_recorded_or_refused_by_name(folder, tmp_path):
    path = converted(folder, tmp_path / "model.onnx")
    name = folder.name.removeprefix("test_").removeprefix("operator_")
    if name in REASONS:
        with pytest.raises(lb.LipboundsError, match=REASONS[name]):
            imported(folder, path)
        return
    network = imported(folder, path)
    x, wanted = recorded(folder, "input"), recorded(folder, "output")
    x = torch.from_numpy(x).double().reshape(-1, network.input_size)
    ours = network(x).numpy().reshape(wanted.shape)
    np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-5 * abs(wanted).max())
