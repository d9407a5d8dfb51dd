"""Plans that TensorRT runs, from 8.5 (Xavier) to 11, by the part of its API that they share.

Written by its documentation and UNPROVEN: no GPU was at hand; its test runs it on a stand-in for TensorRT and CUDA. A driver
is probed before TensorRT is touched, because its Runtime ends the process where there is none.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any, Dict, List

import numpy as np

from .errors import BundleError
from .machine import driver_works

MEMCPY_HOST_TO_DEVICE, MEMCPY_DEVICE_TO_HOST = 1, 2
CUDA_RUNTIMES = ("libcudart.so", "libcudart.so.11.0", "libcudart.so.12", "libcudart.so.13")
NUMPY_TYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
"""By the name of TensorRT's type: ``tensorrt.nptype`` of 8.5 uses names that NumPy 1.24 no longer has."""


def cuda_runtime() -> Any:
    """The CUDA runtime library.

    Raises:
        BundleError: there is none.
    """
    for name in (*CUDA_RUNTIMES, ctypes.util.find_library("cudart")):
        if name:
            try:
                return ctypes.CDLL(name)
            except OSError:
                continue
    raise BundleError("libcudart.so", "is not found", "put CUDA's lib64 on LD_LIBRARY_PATH")


class Engine:
    """A deserialised plan with its buffers, which live as long as the process.

    Args:
        path: of the .plan file, built on this very platform.
        plan: its entry in the manifest.
        threads: unused.

    Raises:
        BundleError: no driver, or the plan is not for this TensorRT.
    """

    def __init__(self, path: str, plan: Dict[str, Any], threads: int) -> None:
        if not driver_works():
            raise BundleError(path, "no CUDA driver answers", "run it on the target, or choose another plan")
        import tensorrt

        self._cuda = cuda_runtime()
        self._logger = tensorrt.Logger(tensorrt.Logger.WARNING)
        with open(path, "rb") as stream:
            self._engine = tensorrt.Runtime(self._logger).deserialize_cuda_engine(stream.read())
        if self._engine is None:
            raise BundleError(path, "this TensorRT cannot load it", "build it here with the bundle's build script")
        self._context = self._engine.create_execution_context()
        names: List[str] = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        mode = tensorrt.TensorIOMode.INPUT
        self._input = next(name for name in names if self._engine.get_tensor_mode(name) == mode)
        self._outputs = [name for name in names if name != self._input]
        self._buffers: Dict[str, Any] = {}

    def _buffer(self, name: str, size: int) -> int:
        """Device memory of at least so many bytes, kept; bound to the tensor of this name."""
        held = self._buffers.get(name)
        if held is None or held[1] < size:
            if held is not None:
                self._call("cudaFree", held[0])
            pointer = ctypes.c_void_p()
            self._call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(size))
            held = (pointer, size)
            self._buffers[name] = held
        address = int(held[0].value or 0)
        if not self._context.set_tensor_address(name, address):
            raise BundleError(name, "TensorRT refuses its buffer", "build the plan again")
        return address

    def _call(self, function: str, *arguments: Any) -> None:
        """A function of the CUDA runtime; none of its failures goes unseen."""
        code = getattr(self._cuda, function)(*arguments)
        if code != 0:
            raise BundleError(function, "CUDA error {}".format(code), "use a smaller batch, or see the driver's log")

    def infer(self, frames: np.ndarray) -> Dict[str, np.ndarray]:
        """uint8 [B, H, W, 3] -> outputs by name.

        Raises:
            BundleError: the plan does not take this shape, or CUDA fails: no stale result is ever returned.
        """
        frames = np.ascontiguousarray(frames)
        if not self._context.set_input_shape(self._input, frames.shape):
            raise BundleError("frames", "the plan does not take shape {}".format(list(frames.shape)), "see its batch")
        address = ctypes.c_void_p(self._buffer(self._input, frames.nbytes))
        source, size = frames.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(frames.nbytes)
        self._call("cudaMemcpy", address, source, size, MEMCPY_HOST_TO_DEVICE)
        results: Dict[str, np.ndarray] = {}
        addresses: Dict[str, int] = {}
        for name in self._outputs:
            shape = tuple(int(side) for side in self._context.get_tensor_shape(name))
            results[name] = np.empty(shape, NUMPY_TYPES[self._engine.get_tensor_dtype(name).name])
            addresses[name] = self._buffer(name, results[name].nbytes)
        if not self._context.execute_async_v3(0):
            raise BundleError("plan", "TensorRT could not run it", "see its log")
        self._call("cudaDeviceSynchronize")
        for name, result in results.items():
            target, size = result.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(result.nbytes)
            self._call("cudaMemcpy", target, ctypes.c_void_p(addresses[name]), size, MEMCPY_DEVICE_TO_HOST)
        return results
