"""A hash chain of the losses of every batch: two runs are the same as far as their chains are.

``losses.txt`` holds a line of fixed length a batch: its number, the mean loss over ranks as hexadecimal float32, and the
sha256 of the line before and of all ranks' losses.
"""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from avexp.core.run_folder import RunFolder
from avexp.train.collective import together

LINE = "{number:010d} {loss:>24s} {digest}\n"
LINE_BYTES = len(LINE.format(number=0, loss="", digest="0" * 64))


class LossChain(Callback):
    """Writes the chain. Losses stay on their device until it is flushed; a resumed run cuts the file to its checkpoint.

    Args:
        run: its folder.
        every: batches between two flushes.
    """

    def __init__(self, run: RunFolder, every: int) -> None:
        self.run, self.every = run, every
        self.number = 0
        self.digest = "0" * 64
        self._losses: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """Up to this batch; every rank comes here together."""
        self.flush(sync=True)
        return {"number": self.number, "digest": self.digest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.number, self.digest = int(state_dict["number"]), str(state_dict["digest"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What a killed run wrote beyond its checkpoint comes again."""
        if trainer.is_global_zero:
            with self.run.losses.open("ab") as stream:
                stream.truncate(self.number * LINE_BYTES)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss."""
        self._losses.append(outputs["loss"].detach())
        if len(self._losses) >= self.every:
            self.flush()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The rest."""
        self.flush()

    def flush(self, sync: bool = False) -> None:
        """Write what is kept: one collective for all of it. A checkpoint never knows more than the file."""
        if not self._losses:
            return
        mine = torch.stack([loss.float() for loss in self._losses])
        self._losses = []
        if together():
            parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
            dist.all_gather(parts, mine)
            lines = self._lines(torch.stack(parts))  # on every rank: their states stay equal
            if dist.get_rank() != 0:
                return
        else:
            lines = self._lines(mine[None])
        with self.run.losses.open("a") as stream:
            stream.write("".join(lines))
            if sync:
                stream.flush()
                os.fsync(stream.fileno())

    def _lines(self, losses: Tensor) -> list[str]:
        """[R, N] -> N lines."""
        values = losses.cpu().numpy().astype("<f4")
        lines = []
        for column in values.T:
            content = self.digest.encode() + self.number.to_bytes(8, "little") + np.ascontiguousarray(column).tobytes()
            self.digest = hashlib.sha256(content).hexdigest()
            lines.append(LINE.format(number=self.number, loss=float(column.mean()).hex(), digest=self.digest))
            self.number += 1
        return lines


def tensor_digests(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """sha256 of a checkpoint's weights, averages and optimizer, over names, types, shapes and bytes (not over the file)."""
    parts = {
        "weights": checkpoint.get("state_dict"),
        "raw_weights": checkpoint.get("current_model_state"),
        "optimizer": checkpoint.get("optimizer_states"),
    }
    return {name: _digest(value) for name, value in parts.items() if value is not None}


def _digest(value: Any) -> str:
    state = hashlib.sha256()
    _add(state, "", value)
    return state.hexdigest()


def _add(state: Any, name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            _add(state, f"{name}/{key}", value[key])
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            _add(state, f"{name}/{place}", item)
    elif isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        state.update(f"{name}:{plain.dtype}:{tuple(plain.shape)}:".encode())
        state.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    else:
        state.update(f"{name}={value!r};".encode())
