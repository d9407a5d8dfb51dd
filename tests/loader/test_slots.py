import gc

import numpy as np
import torch

from avexp.loader.slots import Slots, attach


def test_what_somebody_holds_is_not_given_out_again():
    slots = Slots((2, 3, 4, 3))
    held = torch.from_numpy(slots.take().images[:1])[0, 1:]
    held[:] = 7
    for _ in range(5):
        slots.take().images[:] = 1
    gc.collect()
    assert (held == 7).all()
    assert slots.made == 2


def test_memory_is_used_again_once_it_is_let_go():
    slots = Slots((2, 3, 4, 3))
    for _ in range(20):
        tensor = torch.from_numpy(slots.take().images)
        del tensor
    assert slots.made == 1


def test_another_process_maps_the_same_memory():
    slots = Slots((2, 3, 4, 3), shared=True)
    slot = slots.take()
    attach(slot.path, slots.shape)[1] = 9
    assert slot.images[0].max() == 0
    assert (slot.images[1] == 9).all()
    assert np.shares_memory(slot.images, slot.images[1])
