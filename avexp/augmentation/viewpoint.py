"""Viewpoint shift: the car displaced to the side and turned, so that the network learns to come back.

Source: shifted cameras as in Bojarski et al. 2016, "End to End Learning for Self-Driving Cars". What lies below the
horizon is taken as flat ground, what lies above as infinitely far; so it holds for small shifts, and standing things
bend at the horizon.
"""

from typing import ClassVar

from avexp.augmentation.operation import Displacement, Floats, Perspective, within


class Viewpoint(Perspective):
    """Displaces the car; frames whose camera or speed is unknown stay as they are.

    Args:
        probability: share of the frames.
        lateral_max_m: largest displacement to either side [m].
        yaw_max_rad: largest turn to either side [rad].
        recovery_s: the labelled path is that of a driver who aims at the recorded one this far ahead [s].
        recovery_min_m: and at least this far [m].
    """

    numbers: ClassVar[int] = 2

    def __init__(
        self,
        probability: float = 0.5,
        lateral_max_m: float = 0.6,
        yaw_max_rad: float = 0.03,
        recovery_s: float = 2.0,
        recovery_min_m: float = 10.0,
    ) -> None:
        super().__init__(probability)
        self.require("lateral_max_m", lateral_max_m, 0.0, 3.0)
        self.require("yaw_max_rad", yaw_max_rad, 0.0, 0.3)
        self.require("recovery_s", recovery_s, 0.1, 20.0)
        self.require("recovery_min_m", recovery_min_m, 1.0, 100.0)
        self.lateral_max_m, self.yaw_max_rad = lateral_max_m, yaw_max_rad
        self.recovery_s, self.recovery_min_m = recovery_s, recovery_min_m

    def draw(self, numbers: Floats) -> Displacement:
        """Displacement and turn, each evenly over its range."""
        lateral = within(numbers[:, 0], -self.lateral_max_m, self.lateral_max_m)
        yaw = within(numbers[:, 1], -self.yaw_max_rad, self.yaw_max_rad)
        return Displacement(lateral, yaw, self.recovery_s, self.recovery_min_m)
