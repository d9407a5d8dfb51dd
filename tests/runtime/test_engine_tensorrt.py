"""TensorRT and CUDA as small stand-ins on host memory: not the real thing, but every call must be one that it has."""

import ctypes
import enum
import sys
import types

import numpy as np
import pytest
from toy_bundle import HEIGHT, WIDTH, toy_bundle

from avexp.runtime import machine
from avexp.runtime.engine_tensorrt import Engine
from avexp.runtime.errors import BundleError
from avexp.runtime.loading import load

FRAMES = np.random.default_rng(3).integers(0, 255, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)


class Kind(enum.Enum):
    UINT8 = 0
    FLOAT = 1


class Card:
    """cudart on host memory; ``fails`` names functions that return an error."""

    def __init__(self):
        self.held, self.fails = {}, set()

    def __getattr__(self, name):
        if name not in ("cudaMalloc", "cudaFree", "cudaMemcpy", "cudaDeviceSynchronize"):
            raise AttributeError(name)
        return lambda *arguments: 2 if name in self.fails else (getattr(self, "_" + name)(*arguments) or 0)

    def _cudaMalloc(self, pointer, size):  # noqa: N802
        memory = ctypes.create_string_buffer(size.value)
        pointer._obj.value = ctypes.addressof(memory)
        self.held[pointer._obj.value] = memory

    def _cudaFree(self, pointer):  # noqa: N802
        del self.held[pointer.value]

    def _cudaMemcpy(self, target, source, size, kind):  # noqa: N802
        assert (target.value if kind == 1 else source.value) in self.held, "copies go to or from the card"
        ctypes.memmove(target, source, size.value)

    def _cudaDeviceSynchronize(self):  # noqa: N802
        pass


class Context:
    """Computes the mean of each frame."""

    def __init__(self):
        self.addresses, self.shape, self.works = {}, None, True

    def set_input_shape(self, name, shape):
        self.shape = tuple(shape)
        return name == "image" and shape[0] <= 4

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return isinstance(address, int)

    def get_tensor_shape(self, name):
        return (self.shape[0],)

    def execute_async_v3(self, stream):
        size = int(np.prod(self.shape))
        frames = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.addresses["image"])).reshape(
            self.shape
        )
        result = np.ctypeslib.as_array((ctypes.c_float * self.shape[0]).from_address(self.addresses["curvature"]))
        result[:] = frames.mean((1, 2, 3))
        return self.works


@pytest.fixture
def card(monkeypatch):
    card, context = Card(), Context()
    engine = types.SimpleNamespace(
        num_io_tensors=2,
        get_tensor_name=lambda index: ["image", "curvature"][index],
        get_tensor_mode=lambda name: "in" if name == "image" else "out",
        get_tensor_dtype=lambda name: Kind.UINT8 if name == "image" else Kind.FLOAT,
        create_execution_context=lambda: context,
    )
    fake = types.ModuleType("tensorrt")
    fake.__spec__ = types.SimpleNamespace(name="tensorrt")
    fake.__version__ = "8.5.2.2"
    fake.Logger = type("Logger", (), {"WARNING": 1, "__init__": lambda self, level: None})
    fake.TensorIOMode = types.SimpleNamespace(INPUT="in")
    fake.Runtime = lambda logger: types.SimpleNamespace(
        deserialize_cuda_engine=lambda content: None if content == b"other" else engine
    )
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    monkeypatch.setattr("avexp.runtime.engine_tensorrt.driver_works", lambda: True)
    monkeypatch.setattr("avexp.runtime.engine_tensorrt.cuda_runtime", lambda: card)
    monkeypatch.setattr(machine, "driver_works", lambda: True)
    monkeypatch.setattr(machine, "compute_capability", lambda: 72)
    card.context = context
    return card


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "toy.plan").write_bytes(b"plan")
    return str(tmp_path / "toy.plan")


def test_frames_go_to_the_card_and_results_come_back(card, plan):
    engine = Engine(plan, {}, 0)
    for count in (1, 2, 1):
        assert engine.infer(FRAMES[:count])["curvature"] == pytest.approx(FRAMES[:count].mean((1, 2, 3)))
    assert len(card.held) == 2, "a buffer that is too small is given back"


@pytest.mark.parametrize("function", ["cudaMalloc", "cudaMemcpy", "cudaDeviceSynchronize"])
def test_a_failure_of_the_card_is_never_a_result(card, plan, function):
    engine = Engine(plan, {}, 0)
    card.fails.add(function)
    with pytest.raises(BundleError, match=f"{function}: CUDA error 2"):
        engine.infer(FRAMES)


def test_a_plan_that_does_not_run_or_fit_is_never_a_result(card, plan, tmp_path):
    engine = Engine(plan, {}, 0)
    with pytest.raises(BundleError, match="does not take shape"):
        engine.infer(np.repeat(FRAMES, 3, 0))
    card.context.works = False
    with pytest.raises(BundleError, match="could not run it"):
        engine.infer(FRAMES)
    (tmp_path / "toy.plan").write_bytes(b"other")
    with pytest.raises(BundleError, match="this TensorRT cannot load it"):
        Engine(plan, {}, 0)


@pytest.mark.parametrize(
    ("requires", "reason"),
    [
        ({"sm": 72, "tensorrt": "8.5..8.5"}, None),
        ({"sm": 72, "tensorrt": "8.5.2.2"}, None),
        ({"sm": 70}, "needs an sm_70 card, this is 72"),
        ({"tensorrt": "10.3..10.7"}, "needs TensorRT 10.3..10.7, this is 8.5.2.2"),
        ({"tensorrt": "8.5.1"}, "needs TensorRT 8.5.1, this is 8.5.2.2"),
        ({"tensorrt": "8.5..10.4"}, None),
        ({"tensorrt": "8.5.."}, None),
    ],
)
def test_a_plan_is_for_one_card_and_version(card, requires, reason):
    assert machine.unmet({"backend": "tensorrt", "requires": requires}) == reason


def test_without_a_driver_the_next_plan_is_taken(card, tmp_path, monkeypatch):
    bundle = toy_bundle(tmp_path / "bundle")
    monkeypatch.setattr(machine, "driver_works", lambda: False)
    assert machine.unmet({"backend": "tensorrt"}) == "needs a CUDA driver"
    assert load(bundle, threads=1).plan["id"] == "ort"


def test_this_machine_is_asked_without_harm():
    assert machine.driver_works() in (True, False)
    found = machine.compute_capability()
    assert found is None or found >= 50
