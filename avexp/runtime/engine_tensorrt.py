"""Plans that TensorRT runs, from 8.5 (Xavier) to 11, by the part of its API that they share.

Written by its documentation and UNPROVEN: no GPU was at hand. A driver is probed before TensorRT is touched, because its
Runtime ends the process where there is none.
"""

from __future__ import annotations

import ctypes
from typing import Any, Dict, List

import numpy as np

from .errors import BundleError

MEMCPY_HOST_TO_DEVICE, MEMCPY_DEVICE_TO_HOST = 1, 2


def driver_works() -> bool:
    """Whether CUDA's driver is there and initialises."""
    try:
        return bool(ctypes.CDLL("libcuda.so.1").cuInit(0) == 0)
    except OSError:
        return False


class Engine:
    """A deserialised plan with its buffers.

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

        self._trt = tensorrt
        self._cuda = ctypes.CDLL("libcudart.so")
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
        """Device memory of at least so many bytes, kept."""
        held = self._buffers.get(name)
        if held is None or held[1] < size:
            if held is not None:
                self._cuda.cudaFree(held[0])
            pointer = ctypes.c_void_p()
            if self._cuda.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(size)) != 0:
                raise BundleError(name, "no device memory for {} bytes".format(size), "use a smaller batch")
            held = (pointer, size)
            self._buffers[name] = held
        return int(held[0].value or 0)

    def infer(self, frames: np.ndarray) -> Dict[str, np.ndarray]:
        """uint8 [B, H, W, 3] -> outputs by name."""
        frames = np.ascontiguousarray(frames)
        self._context.set_input_shape(self._input, frames.shape)
        address = self._buffer(self._input, frames.nbytes)
        self._context.set_tensor_address(self._input, address)
        source = frames.ctypes.data_as(ctypes.c_void_p)
        self._cuda.cudaMemcpy(ctypes.c_void_p(address), source, ctypes.c_size_t(frames.nbytes), MEMCPY_HOST_TO_DEVICE)
        results: Dict[str, np.ndarray] = {}
        for name in self._outputs:
            shape = tuple(self._context.get_tensor_shape(name))
            kind = self._trt.nptype(self._engine.get_tensor_dtype(name))
            results[name] = np.empty(shape, kind)
            self._context.set_tensor_address(name, self._buffer(name, results[name].nbytes))
        self._context.execute_async_v3(0)
        self._cuda.cudaDeviceSynchronize()
        for name, result in results.items():
            target, size = result.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(result.nbytes)
            self._cuda.cudaMemcpy(target, ctypes.c_void_p(self._buffer(name, 0)), size, MEMCPY_DEVICE_TO_HOST)
        return results
