"""Predictions and truth drawn on a frame: predicted in solid colour, true thin and dashed white."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from avexp.records.labels import LIGHT_STATES, OBJECT_CLASSES, Labels
from avexp.records.prediction import Prediction
from avexp.report.ground import GroundCamera, ribbon

Image = npt.NDArray[np.uint8]
Fixed = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Colour = tuple[int, int, int]

CLASS_COLOURS: tuple[Colour, ...] = (
    (64, 156, 255),
    (155, 120, 255),
    (255, 122, 69),
    (255, 196, 61),
    (54, 207, 201),
    (222, 226, 230),
)
LIGHT_COLOURS: dict[str, Colour] = {
    "off": (160, 168, 178),
    "red": (255, 77, 79),
    "yellow": (255, 197, 61),
    "green": (82, 220, 100),
}
LANE, DRIVABLE, PATH = (255, 214, 10), (38, 190, 120), (245, 70, 160)
TRUTH, TRUE_AREA, SHADE = (255, 255, 255), (176, 255, 208), (14, 17, 22)
PATH_WIDTH_M = 1.7
FRACTION_BITS = 3
MOST_DASHES = 400
FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_frame(
    image: Image,
    prediction: Prediction | None = None,
    truth: Labels | None = None,
    *,
    sensor: str = "front",
    camera_size: tuple[int, int] | None = None,
    camera: GroundCamera | None = None,
    classes: Sequence[str] = OBJECT_CLASSES,
    min_score: float = 0.3,
    legend: bool = True,
) -> Image:
    """A copy of a frame with what is known about it.

    Args:
        image: uint8 [h, w, 3] RGB.
        prediction: in camera pixels and metres.
        truth: labels of the frame.
        sensor: which camera's labels to draw.
        camera_size: width, height [px] that prediction and truth refer to; None if it is the image's own.
        camera: for the path; without it the path is left out.
        classes: class names of the prediction's indices.
        min_score: objects below it are not drawn.
        legend: explain the colours in a corner.
    """
    pen = _Pen(np.ascontiguousarray(image).copy(), camera_size)
    dashes = [] if truth is None else _truth_dashes(pen, truth, sensor, camera)
    # the dark rim of the dashes lies below the prediction and their white on top: where both agree, both are seen
    for pieces, _colour in dashes:
        pen.lines(pieces, SHADE, pen.stroke + 1)
    if prediction is not None:
        _draw_areas(pen, prediction, camera)
        _draw_lines(pen, prediction, classes, min_score)
    for pieces, colour in dashes:
        pen.lines(pieces, colour, 1)
    if prediction is not None:
        _draw_chips(pen, prediction, classes, min_score)
    if legend:
        _draw_legend(pen, prediction, truth)
    return pen.image


class _Pen:
    """Draws in camera pixels on an image that may be a smaller copy; sizes follow the image's height."""

    def __init__(self, image: Image, camera_size: tuple[int, int] | None) -> None:
        self.image = image
        self.height, self.width = image.shape[:2]
        size = camera_size or (self.width, self.height)
        self.scale = np.array([self.width / size[0], self.height / size[1]])
        self.unit = self.height / 540
        self.stroke = max(round(2 * self.unit), 2)

    def fixed(self, points: npt.ArrayLike) -> Fixed:
        """Camera points -> cv2's fixed-point image points; a record's first pixel centre is 0.5, cv2's is 0."""
        place = np.asarray(points, np.float64).reshape(-1, 2) * self.scale - 0.5
        limit = 4 * max(self.width, self.height)
        place = np.clip(place[np.isfinite(place).all(1)], -limit, limit)
        return np.asarray(np.rint(place * (1 << FRACTION_BITS)), np.int32)

    def lines(self, pieces: Sequence[Fixed], colour: Colour, thickness: int, closed: bool = False) -> None:
        """Anti-aliased polylines of fixed-point points."""
        if pieces:
            cv2.polylines(self.image, pieces, closed, colour, thickness, cv2.LINE_AA, FRACTION_BITS)

    def dashes(self, points: npt.ArrayLike, closed: bool = False) -> list[Fixed]:
        """The pieces of a dashed line."""
        line = np.asarray(points, np.float64).reshape(-1, 2)
        line = line[np.isfinite(line).all(1)]
        if closed and len(line):
            line = np.concatenate([line, line[:1]])
        dash = 6 * self.unit + 2
        return [self.fixed(piece / self.scale) for piece in _cut(line * self.scale, dash, dash)]

    def fill(self, polygon: npt.ArrayLike, colour: Colour, share: float) -> None:
        """Transparent polygon."""
        corners = self.fixed(polygon)
        if len(corners) < 3:
            return
        mask = np.zeros((self.height, self.width), np.uint8)
        cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA, FRACTION_BITS)
        self.tint(mask, colour, share)

    def tint(self, mask: Image, colour: Colour, share: float) -> None:
        """Mix a colour in where the mask is set."""
        x, y, width, height = cv2.boundingRect(mask)
        if width == 0:
            return
        part = self.image[y : y + height, x : x + width]
        mixed = cv2.addWeighted(part, 1 - share, np.full_like(part, colour), share, 0)
        cv2.copyTo(mixed, mask[y : y + height, x : x + width], part)

    def chip(self, text: str, x: float, y: float, colour: Colour) -> None:
        """A label whose bottom left corner is at an image point, kept inside the image."""
        size, thickness = max(0.42 * self.unit, 0.32), max(round(self.unit), 1)
        (width, height), _ = cv2.getTextSize(text, FONT, size, thickness)
        pad = max(round(3 * self.unit), 2)
        left = int(np.clip(x, 0, max(self.width - width - 2 * pad, 0)))
        bottom = int(np.clip(y, height + 2 * pad, self.height))
        cv2.rectangle(self.image, (left, bottom - height - 2 * pad), (left + width + 2 * pad, bottom), colour, -1)
        dark = sum(colour) > 360
        ink = SHADE if dark else TRUTH
        cv2.putText(self.image, text, (left + pad, bottom - pad), FONT, size, ink, thickness, cv2.LINE_AA)


def _cut(line: Floats, dash: float, gap: float) -> list[Floats]:
    """Dashes of a polyline [P, 2]."""
    if len(line) < 2:
        return []
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    pieces = []
    for start in np.arange(0.0, lengths[-1], dash + gap)[:MOST_DASHES]:
        end = min(start + dash, lengths[-1])
        at = np.concatenate([[start], lengths[(lengths > start) & (lengths < end)], [end]])
        pieces.append(np.stack([np.interp(at, lengths, line[:, axis]) for axis in range(2)], 1))
    return pieces


def _corners(x1: float, y1: float, x2: float, y2: float) -> list[tuple[float, float]]:
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]


def _truth_dashes(
    pen: _Pen, truth: Labels, sensor: str, camera: GroundCamera | None
) -> list[tuple[list[Fixed], Colour]]:
    rings = [ring for region in truth.drivable if region.sensor == sensor for ring in region.rings]
    areas = [piece for ring in rings for piece in pen.dashes(ring, closed=True)]
    lines = [piece for lane in truth.lanes for piece in pen.dashes(lane.image.get(sensor, []))]
    if truth.path is not None and camera is not None and camera.usable:
        left, right = ribbon(truth.path.positions_m, PATH_WIDTH_M)
        lines += pen.dashes(camera.project((left + right) / 2))
    for box in (thing.box2d.get(sensor) for thing in truth.objects):
        if box is not None:
            lines += pen.dashes(_corners(box.x1, box.y1, box.x2, box.y2), closed=True)
    return [(areas, TRUE_AREA), (lines, TRUTH)]


def _draw_areas(pen: _Pen, said: Prediction, camera: GroundCamera | None) -> None:
    if said.drivable is not None:
        whole = cv2.resize(said.drivable * 255, (pen.width, pen.height), interpolation=cv2.INTER_LINEAR)
        pen.tint(cv2.threshold(whole, 127, 255, cv2.THRESH_BINARY)[1], DRIVABLE, 0.28)
    if said.path is not None and camera is not None and camera.usable:
        left, right = (camera.project(border) for border in ribbon(said.path, PATH_WIDTH_M))
        pen.fill(np.concatenate([left, right[::-1]]), PATH, 0.35)
        pen.lines([pen.fixed(left), pen.fixed(right)], PATH, pen.stroke)


def _draw_lines(pen: _Pen, said: Prediction, classes: Sequence[str], min_score: float) -> None:
    pen.lines([pen.fixed(line) for line in said.lanes or []], LANE, pen.stroke + 1)
    for index, box in _shown(said, min_score):
        pen.lines([pen.fixed(_corners(*box))], _name(said, index, classes)[1], pen.stroke, closed=True)


def _shown(said: Prediction, min_score: float) -> list[tuple[int, list[float]]]:
    """Objects to draw with their boxes, far ones first, so that near ones lie on top."""
    if said.boxes is None:
        return []
    order = np.argsort(said.boxes[:, 3], kind="stable")
    return [(int(index), said.boxes[index].tolist()) for index in order if said.scores[index] >= min_score]


def _name(said: Prediction, index: int, classes: Sequence[str]) -> tuple[str, Colour]:
    """What an object is called, and its colour; a light is called by its state."""
    kind = int(said.classes[index])
    if classes[kind] == "light" and index < len(said.states):
        state = LIGHT_STATES[int(said.states[index])]
        return state, LIGHT_COLOURS[state]
    return classes[kind], CLASS_COLOURS[kind % len(CLASS_COLOURS)]


def _draw_chips(pen: _Pen, said: Prediction, classes: Sequence[str], min_score: float) -> None:
    for index, (x1, y1, x2, _y2) in _shown(said, min_score):
        name, colour = _name(said, index, classes)
        text = f"{name} {said.scores[index]:.2f}"
        if index < len(said.distances) and np.isfinite(said.distances[index]):
            text += f" {said.distances[index]:.0f} m"
        # a small box gets no label much wider than itself: only its name
        wide = (x2 - x1) * pen.scale[0] > 26 * pen.unit
        pen.chip(text if wide else name, x1 * pen.scale[0] - pen.stroke / 2, y1 * pen.scale[1], colour)


def _draw_legend(pen: _Pen, said: Prediction | None, truth: Labels | None) -> None:
    entries: list[tuple[str, Colour | None]] = []
    if said is not None:
        parts = (("lane", LANE, said.lanes), ("drivable", DRIVABLE, said.drivable), ("path", PATH, said.path))
        entries += [(name, colour) for name, colour, value in parts if value is not None]
    if truth is not None:
        entries.append(("truth", None))
    if not entries:
        return
    size, unit = max(0.4 * pen.unit, 0.32), max(pen.unit, 0.75)
    widths = [cv2.getTextSize(name, FONT, size, 1)[0][0] for name, _colour in entries]
    pad, swatch, height = round(8 * unit), round(18 * unit), round(22 * unit)
    total = sum(widths) + len(entries) * (swatch + 2 * pad) + pad // 2
    top, left = pen.height - height - pad, pad
    panel = pen.image[top : top + height, left : left + total]
    panel[:] = cv2.addWeighted(panel, 0.3, np.full_like(panel, SHADE), 0.7, 0)
    middle, x = top + height // 2, left + pad
    for (name, colour), width in zip(entries, widths, strict=True):
        if colour is None:
            for start in range(x, x + swatch - 3, max(round(7 * unit), 4)):
                end = min(start + max(round(4 * unit), 2), x + swatch)
                cv2.line(pen.image, (start, middle), (end, middle), TRUTH, 1, cv2.LINE_AA)
        else:
            cv2.line(pen.image, (x, middle), (x + swatch - 4, middle), colour, max(round(4 * unit), 2), cv2.LINE_AA)
        baseline = (x + swatch + 2, middle + round(5 * size / 0.4))
        cv2.putText(pen.image, name, baseline, FONT, size, TRUTH, 1, cv2.LINE_AA)
        x += swatch + width + 2 * pad


def heat(image: Image, attribution: npt.NDArray[np.float32], share: float = 0.6) -> Image:
    """An attribution map laid over a frame: the frame in grey, warm where the map is high.

    Args:
        image: uint8 [h, w, 3] RGB.
        attribution: [h', w'] of any range; negative values and NaN count as 0, the 99th percentile is full.
        share: of the map's colour where it is full.
    """
    height, width = image.shape[:2]
    values = np.maximum(np.nan_to_num(attribution.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0), 0)
    full = float(np.quantile(values, 0.99)) if values.size else 0.0
    values = np.clip(values / (full or float(values.max(initial=0.0)) or 1.0), 0, 1)
    level = np.clip(cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
    colours = cv2.cvtColor(cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    weight = (level * share)[..., None]
    return np.asarray(grey * (1 - weight) + colours * weight).round().astype(np.uint8)
