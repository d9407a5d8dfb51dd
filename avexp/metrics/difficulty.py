"""Which true objects count: what is tiny, mostly hidden or mostly cut off is neither right nor wrong.

Source: the levels of the KITTI object benchmark (Geiger et al. 2012): heights of 40, 25 and 25 px in images of 375 px, cut off by
15, 30 and 50 %, visible, partly and largely occluded; the last are words there, and shares here (ours).
"""

from dataclasses import dataclass

from avexp.records.labels import Box2D


@dataclass(frozen=True, slots=True)
class Difficulty:
    """A level: objects up to it count, and predictions that are too low to be one of them are left out.

    Attributes:
        height_min: least height of the box, as a share of the image's.
        occlusion_max: largest hidden share.
        truncation_max: largest share outside of the image.
    """

    height_min: float = 0.0
    occlusion_max: float = 1.0
    truncation_max: float = 1.0

    def counts(self, box: Box2D, image_height_px: float) -> bool:
        """Whether an object with this box in an image of this height counts."""
        tall = box.y2 - box.y1 >= self.height_min * image_height_px
        return tall and box.occlusion <= self.occlusion_max and box.truncation <= self.truncation_max


ALL = Difficulty()
EASY = Difficulty(40 / 375, 0.1, 0.15)
MODERATE = Difficulty(25 / 375, 0.5, 0.3)
HARD = Difficulty(25 / 375, 0.8, 0.5)
