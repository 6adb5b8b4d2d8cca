"""The sub-tasks of `diagnostic/<task>`: in each, a cue at a known distance decides between classes that look alike.

The class of an object is drawn first and its pixels follow from it, so labels are exact by construction. The comments
beside the choices cite the literature behind the design and say what earlier versions got wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from segnext.data.generated.drawing import NOTHING, SIDE, Floats, Picture, nearest, value_noise
from segnext.data.source import IGNORE

CUES = ("seen", "removed", "local")

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]

# Colours as RGB. Objects have one colour, whatever their class; the colours of marks and keys decide it.
_GROUND = (0.46, 0.46, 0.46)
_OBJECT = (0.66, 0.62, 0.46)
_CUE = np.array([(0.85, 0.20, 0.20), (0.20, 0.70, 0.28)], np.float32)  # of class 1 and of class 2
_NEUTRAL = _CUE.mean(axis=0)
_TINT = np.array([(0.10, -0.06, -0.02), (-0.10, 0.06, 0.02)], np.float32)  # of whole objects, if the cue is local
_RING = np.array([(0.30, 0.40, 0.62), (0.62, 0.42, 0.30)], np.float32)  # gate: the field around a disc
_SHADE = np.array([(0.40, 0.40, 0.40), (0.62, 0.62, 0.62)], np.float32)  # gate: the disc itself

_AT = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2  # centres of pixels, relative to the image's centre
_Y, _X = _AT[:, None], _AT[None, :]


class Chance:
    """The random numbers of an image, and the parameters that its split draws from.

    From every range of sizes, held-out images draw every second size and all other images draw the rest, so no size in
    a test was trained on. Held-out images also have more noise and, on average, a stronger colour cast.
    """

    def __init__(self, random: np.random.Generator, held_out: bool = False, cue: str = "seen") -> None:
        assert cue in CUES, cue
        self.random, self.held_out, self.cue = random, held_out, cue

    def sizes(self, least: int, most: int, count: int) -> Numbers:
        """`count` whole numbers from a range, both ends included."""
        return self.random.choice(np.arange(least, most + 1)[int(self.held_out) :: 2], count)

    def cells(self, side: int, count: int, room: Floats | Numbers) -> tuple[Floats, Floats]:
        """The y and x, (count,) each, of centres in different cells of a grid; `room` is half the side of each object.

        Centres lie on whole pixels, so that an object with an odd side is centred exactly.
        """
        per_edge = SIDE // side
        chosen = self.random.permutation(per_edge**2)[:count]
        free = side / 2 - np.asarray(room, np.float32) - 1
        shift = self.random.uniform(-1, 1, (2, count)).astype(np.float32) * free
        middle = np.stack(np.divmod(chosen, per_edge)).astype(np.float32) * side + (side - SIDE) / 2
        y, x = np.rint(middle + shift) + np.float32(0.5)
        return y, x

    def balanced(self, count: int) -> Numbers:
        """Class 0 for half of the objects and class 1 for the other half, in random order."""
        return self.random.permutation(np.arange(count) % 2)

    def cue_colours(self, classes: Numbers) -> Floats:
        """The colours of marks or keys for these classes: neutral if the cue is removed."""
        return np.broadcast_to(_NEUTRAL, (len(classes), 3)) if self.cue == "removed" else _CUE[classes]

    def object_colours(self, classes: Numbers) -> Floats:
        """The colours of the objects: the same for both classes, unless the cue is local."""
        colour = np.array(_OBJECT, np.float32)
        return colour + _TINT[classes] if self.cue == "local" else np.broadcast_to(colour, (len(classes), 3))


class _Canvas:
    """Objects painted over each other: the label, the colour and the distance of every pixel."""

    def __init__(self, background: int = IGNORE) -> None:
        self.colour = np.empty((SIDE, SIDE, 3), np.float32)
        self.colour[:] = _GROUND
        # Official code ignores 255. With an ignored background only the classes are learnt and scored. If it were a
        # class, a network would first learn contours and stay there (measured), and mIoU would mostly measure contours.
        self.label = np.full((SIDE, SIDE), background, np.uint8)
        self.distance = np.full((SIDE, SIDE), NOTHING, np.uint8)

    def objects(self, masks: Mask, classes: Numbers, colours: Floats, cues: Mask | None = None) -> None:
        """Paint objects, masks (N, 96, 96), the last on top, and set their pixels' distances to the deciding cues.

        `cues` are masks (N, 96, 96), or (1, 96, 96) for one cue that all objects share.
        """
        y, x, owner = _owners(masks)
        self.label[y, x] = classes[owner]
        self.colour[y, x] = colours[owner]
        if cues is None:
            return
        whose, cue_y, cue_x = np.nonzero(cues)
        for which in range(len(masks)):
            own, cue = owner == which, whose == (which if len(cues) > 1 else 0)
            self.distance[y[own], x[own]] = nearest((y[own], x[own]), (cue_y[cue], cue_x[cue]))

    def surfaces(self, masks: Mask, colours: Floats) -> None:
        """Paint the colours of objects without changing labels."""
        y, x, owner = _owners(masks)
        self.colour[y, x] = colours[owner]

    def picture(self, chance: Chance, texture: Floats | None = None) -> Picture:
        """The finished image: colours with a cast, uneven light and noise."""
        random = chance.random
        cast = random.uniform(-0.1, 0.1, 3).astype(np.float32)
        if chance.held_out:
            cast += np.copysign(np.float32(0.04), cast)
        light = 0.85 + 0.2 * value_noise(random, 6) + 0.1 * value_noise(random, 24)
        noise = np.float32(0.08 if chance.held_out else 0.06) * random.standard_normal(
            (SIDE, SIDE, 3), dtype=np.float32
        )
        image = self.colour * (1 + cast) * light[..., None] + noise
        if texture is not None:
            image += texture
        return Picture((255 * np.clip(image, 0, 1) + 0.5).astype(np.uint8), self.label, self.distance)


def _owners(masks: Mask) -> tuple[Numbers, Numbers, Numbers]:
    """Rows and columns of the pixels in any of the masks (N, 96, 96), and for each the last mask that contains it."""
    number = np.arange(1, len(masks) + 1, dtype=np.uint8)
    owner = (masks * number[:, None, None]).max(axis=0)
    y, x = np.nonzero(owner)
    return y, x, owner[y, x].astype(np.int64) - 1


def _discs(y: Floats, x: Floats, radius: Floats | Numbers) -> Mask:
    """Masks of discs around points, without a lone pixel at each pole: (N, 96, 96)."""
    square = (_Y - y[:, None, None]) ** 2 + (_X - x[:, None, None]) ** 2
    inside: Mask = square <= ((np.asarray(radius, np.float32) + np.float32(0.4)) ** 2)[:, None, None]
    return inside


def _squares(y: Floats, x: Floats, half: Floats) -> Mask:
    """Masks of squares around points; `half` is half the side: (N, 96, 96)."""
    inside: Mask = (abs(_Y - y[:, None, None]) <= half[:, None, None]) & (
        abs(_X - x[:, None, None]) <= half[:, None, None]
    )
    return inside


# Lengths, widths, radii, sides: pixels, ranges with both ends included.
_BARS, _BAR_WIDTH, _MARK = 8, 3, 5
_LENGTHS = {False: (48, 79), True: (42, 63)}  # by whether bars are diagonal; those must be shorter to fit anywhere
_LANES = {False: 22, True: 15}  # mean distance between two parallel bars
_APART = 6.0  # least distance of a mark to another bar
_LAYOUTS = 48  # layouts drawn at once; the first that fits is taken


def strips(chance: Chance) -> Picture:
    """Long bars that cross each other, 4 horizontal and 4 vertical; the colour of a bar's end decides its class.

    The idea is Pathfinder's (Linsley et al. 2018), with labels for pixels. Every image has four bars of each colour:
    with random colours the majority in the image, which a norm over the whole image reveals, would be right for 64 % of
    the bars. The price is that counting the other visible marks predicts better than chance
    (`segnext.data.tools.probe.counted`).
    """
    return _bars(chance, chance.balanced(_BARS))


def strips_independent(chance: Chance) -> Picture:
    """As `strips` with an independent colour per bar, so no mark predicts another. For networks of bounded reach."""
    return _bars(chance, chance.random.integers(0, 2, _BARS))


def strips_diagonal(chance: Chance) -> Picture:
    """As `strips` at 45 degrees, so that no strip convolution of MSCA lies along a bar."""
    return _bars(chance, chance.balanced(_BARS), diagonal=True)


def _bars(chance: Chance, classes: Numbers, diagonal: bool = False) -> Picture:
    length = chance.sizes(*_LENGTHS[diagonal], _BARS)
    direction = np.repeat([[1, 1], [1, -1]] if diagonal else [[0, 1], [1, 0]], _BARS // 2, axis=0).astype(np.float32)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    across, along, end = _layout(chance.random, direction, length, diagonal)
    place = direction[:, :, None, None]
    lengthwise = place[:, 0] * _Y + place[:, 1] * _X - along[:, None, None]
    crosswise = abs(place[:, 1] * _Y - place[:, 0] * _X - across[:, None, None])
    half = (length / 2).astype(np.float32)[:, None, None]
    bars: Mask = (crosswise <= _BAR_WIDTH / 2) & (abs(lengthwise) <= half)
    marks: Mask = bars & (lengthwise * end[:, None, None] > half - _MARK)
    canvas = _Canvas()
    order = chance.random.permutation(_BARS)  # which bar is on top where two cross
    canvas.objects(bars[order], classes[order], chance.object_colours(classes)[order], marks[order])
    canvas.surfaces(marks, chance.cue_colours(classes))
    return canvas.picture(chance)


def _layout(
    random: np.random.Generator, direction: Floats, length: Numbers, diagonal: bool
) -> tuple[Floats, Floats, Floats]:
    """Positions of bars across and along their direction, from the image's centre, and the marked ends (1 or -1).

    Each of the parallel bars has its own lane, and no mark touches another bar.
    """
    lanes = (np.arange(_BARS // 2) - (_BARS // 2 - 1) / 2) * _LANES[diagonal]
    normal = np.stack([direction[:, 1], -direction[:, 0]], axis=1)
    free = _LANES[diagonal] / 2 - _BAR_WIDTH
    while True:
        across = np.tile(lanes, 2) + random.uniform(-free, free, (_LAYOUTS, _BARS))
        across = np.rint(across) + (0.0 if diagonal else 0.5)
        chord = SIDE / np.sqrt(0.5) / 2 - abs(across) - 3 if diagonal else np.full_like(across, SIDE / 2)
        along = random.uniform(-1, 1, (_LAYOUTS, _BARS)) * np.maximum(chord - length / 2, 0)
        end = random.choice([-1.0, 1.0], (_LAYOUTS, _BARS))
        centre = across[..., None] * normal + along[..., None] * direction
        mark = centre + (end * (length - _MARK) / 2)[..., None] * direction
        down, right = (mark[:, :, None, axis] - centre[:, None, :, axis] for axis in (0, 1))
        beyond = np.maximum(abs(down * direction[:, 0] + right * direction[:, 1]) - length / 2, 0)
        gap = np.hypot(down * normal[:, 0] + right * normal[:, 1], beyond)
        gap[:, np.arange(_BARS), np.arange(_BARS)] = np.inf
        fits = gap.min(axis=(1, 2)) > _APART
        if fits.any():
            which = int(fits.argmax())
            chosen = (values[which].astype(np.float32) for values in (across, along, end))
            across_, along_, end_ = chosen
            return across_, along_, end_


def strips_blobs(chance: Chance) -> Picture:
    """The cue of `strips` on compact bodies: 4 large discs with a mark at the rim of each."""
    count = 4
    classes, radius = chance.balanced(count), chance.sizes(16, 21, count)
    y, x = chance.cells(48, count, radius)
    angle = chance.random.uniform(0, 2 * np.pi, count)
    middle = radius - 4
    marks = _squares(
        np.rint(y + middle * np.sin(angle) - 0.5) + np.float32(0.5),
        np.rint(x + middle * np.cos(angle) - 0.5) + np.float32(0.5),
        np.full(count, _MARK / 2, np.float32),
    )
    canvas = _Canvas()
    bodies = _discs(y, x, radius)
    canvas.objects(bodies, classes, chance.object_colours(classes), marks & bodies)
    canvas.surfaces(marks & bodies, chance.cue_colours(classes))
    return canvas.picture(chance)


def scale(chance: Chance) -> Picture:
    """Squares of one texture in three sizes, which are the classes; each class covers about the same area.

    They are squares because the curvature of a small disc's rim reveals its size locally. The distance is how far a
    pixel must see to have two opposite edges of its square in sight.
    """
    order = chance.random.permutation(4)  # the size in each quarter of the image; one size has two quarters
    sizes = np.array([0, 1, 2, int(chance.random.integers(3))])[order]
    classes, y, x, side = [], [], [], []
    for quarter, kind in enumerate(sizes.tolist()):
        per_edge, least, most = ((4, 7, 10), (2, 14, 19), (1, 30, 39))[kind]
        count, cell = per_edge**2, 48 // per_edge
        sides = chance.sizes(least, most, count)
        corner = (np.array(divmod(quarter, 2)) * 48)[:, None] + np.stack(np.divmod(np.arange(count), per_edge)) * cell
        first = corner + chance.random.integers(1, np.maximum(cell - sides, 1) + 1, (2, count))
        classes += [kind] * count
        y += (first[0] + (sides - 1) / 2 - (SIDE - 1) / 2).tolist()
        x += (first[1] + (sides - 1) / 2 - (SIDE - 1) / 2).tolist()
        side += sides.tolist()
    middle_y, middle_x, half = (np.array(values, np.float32) for values in (y, x, np.array(side) / 2))
    kinds = np.array(classes)
    masks = _squares(middle_y, middle_x, half)
    canvas = _Canvas()
    colours = np.broadcast_to(np.array(_OBJECT, np.float32), (len(kinds), 3))
    if chance.cue == "local":
        colours = colours + np.array([_TINT[0], (0, 0, 0), _TINT[1]], np.float32)[kinds]
    canvas.objects(masks, kinds, colours)
    number, rows, columns = np.nonzero(masks)
    away = [
        half[number] - 0.5 + abs(at - middle[number])
        for at, middle in ((_AT[rows], middle_y), (_AT[columns], middle_x))
    ]
    canvas.distance[rows, columns] = np.minimum(*away).astype(np.uint8)
    return canvas.picture(chance)


_KEY = 12


def key(chance: Chance) -> Picture:
    """Seven discs that look alike, and one square key anywhere, whose colour decides the class of all of them.

    The class is drawn per image, so a split is only roughly balanced: 978 red and 1022 green keys for training, 105 and
    95 for testing. A constant prediction is right for 46 or 54 % of the pixels at distances of 21 or more.
    """
    count = 8
    radius = chance.sizes(5, 10, count)
    room = np.maximum(radius, _KEY // 2)
    y, x = chance.cells(24, count, room)
    classes = np.full(count, chance.random.integers(2))
    keys = _squares(y[:1], x[:1], np.full(1, _KEY / 2, np.float32))
    canvas = _Canvas()
    canvas.objects(
        np.concatenate([keys, _discs(y[1:], x[1:], radius[1:])]), classes, chance.object_colours(classes), keys
    )
    canvas.surfaces(keys, chance.cue_colours(classes[:1]))
    return canvas.picture(chance)


def gate(chance: Chance) -> Picture:
    """Discs of two shades, each in a ring of one of two colours; the class is the exclusive or of shade and ring."""
    shade, ring = (chance.random.permutation(np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (2, 1)))).T
    return _rings(chance, shade, ring, shade ^ ring)


def gate_additive(chance: Chance) -> Picture:
    """The twin of `gate` that a sum can decide: class 1 if shade or ring or both are set, as for half of the discs."""
    shade, ring = (chance.random.permutation(np.array([[0, 0]] * 3 + [[0, 1], [1, 0], [1, 1]]))).T
    return _rings(chance, shade, ring, shade | ring)


def _rings(chance: Chance, shade: Numbers, ring: Numbers, classes: Numbers) -> Picture:
    count = len(classes)
    radius, width = chance.sizes(5, 8, count), chance.sizes(3, 6, count)
    y, x = chance.cells(32, count, radius + width)
    bodies, outer = _discs(y, x, radius), _discs(y, x, radius + width)
    rings = outer & ~bodies
    canvas = _Canvas()
    colours = _SHADE[shade] + (_TINT[classes] if chance.cue == "local" else 0)
    canvas.surfaces(rings, np.broadcast_to(_RING.mean(0), (count, 3)) if chance.cue == "removed" else _RING[ring])
    canvas.objects(bodies, classes, colours.astype(np.float32), rings)
    return canvas.picture(chance)


_PERIOD = 8  # of stripes, in pixels


def mix(chance: Chance) -> Picture:
    """Discs with stripes in red and in blue; class 1 if both run the same way, which no single channel shows."""
    red, blue = (chance.random.permutation(np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (2, 1)))).T
    return _striped(chance, red, blue, (red == blue).astype(np.int64))


def mix_single(chance: Chance) -> Picture:
    """The twin of `mix` that one channel decides: the class is the direction of the red stripes."""
    red, blue = (chance.random.permutation(np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (2, 1)))).T
    return _striped(chance, red, blue, red)


def _striped(chance: Chance, red: Numbers, blue: Numbers, classes: Numbers) -> Picture:
    count = len(classes)
    radius = chance.sizes(10, 13, count)
    y, x = chance.cells(32, count, radius)
    bodies = _discs(y, x, radius)
    texture = np.zeros((SIDE, SIDE, 3), np.float32)
    phases = chance.random.uniform(0, 2 * np.pi, (2, 2)).astype(np.float32)
    if chance.cue != "removed":
        for channel, runs, phase in ((0, red, phases[0]), (2, blue, phases[1])):
            waves = np.stack(
                np.broadcast_arrays(
                    *(np.sin(2 * np.pi / _PERIOD * at + p) for at, p in zip((_Y, _X), phase, strict=True))
                )
            )
            for body, way in zip(bodies, runs, strict=True):
                texture[body, channel] = 0.16 * waves[way][body]
    canvas = _Canvas()
    canvas.objects(bodies, classes, chance.object_colours(classes))
    canvas.distance[bodies.any(axis=0)] = _PERIOD // 2  # half a period shows the direction of the stripes
    return canvas.picture(chance, texture)


def fine(chance: Chance) -> Picture:
    """Lines 2 pixels thick in two colours, and slightly lighter or darker discs, under noise in blocks of 4 x 4 pixels.

    A block is as large as the stride of stage 1 and independent of all else, so the class of a disc needs a mean over
    many blocks. The distance of a pixel is measured to the outside of its object.
    """
    count = 8
    random = chance.random
    kinds = chance.balanced(2)
    radius = chance.sizes(15, 20, 2)
    y, x = chance.cells(48, 2, radius)
    colours = np.array(_GROUND, np.float32) + np.array([-0.09, 0.09], np.float32)[kinds][:, None]
    canvas = _Canvas(background=0)
    discs = _discs(y, x, radius)
    canvas.objects(discs, kinds + 3, colours.astype(np.float32))
    rim = [float(r) + 0.5 - np.hypot(_Y - b, _X - a) for b, a, r in zip(y, x, radius, strict=True)]
    for disc, depth in zip(discs, rim, strict=True):
        canvas.distance[disc] = np.clip(np.rint(depth[disc]), 1, 254)
    angle, length = random.uniform(0, np.pi, count), chance.sizes(20, 35, count)
    middle = random.uniform(-34, 34, (2, count))
    along = np.sin(angle)[:, None, None] * (_Y - middle[0][:, None, None])
    along = along + np.cos(angle)[:, None, None] * (_X - middle[1][:, None, None])
    across = np.cos(angle)[:, None, None] * (_Y - middle[0][:, None, None])
    across = across - np.sin(angle)[:, None, None] * (_X - middle[1][:, None, None])
    lines = (abs(along) <= length[:, None, None] / 2) & (abs(across) <= 1)
    classes = chance.balanced(count)
    canvas.objects(lines, classes + 1, _LINE[classes])
    canvas.distance[lines.any(axis=0)] = 1
    blocks = random.uniform(-0.16, 0.16, (SIDE // 4 + 1, SIDE // 4 + 1)).astype(np.float32).repeat(4, 0).repeat(4, 1)
    top, left = random.integers(0, 4, 2)
    return canvas.picture(chance, blocks[top : top + SIDE, left : left + SIDE, None])


_LINE = np.array([(0.70, 0.34, 0.34), (0.30, 0.56, 0.34)], np.float32)


@dataclass(frozen=True)
class Task:
    """One sub-task: the function that draws it, its classes, its version, and the controls that it has."""

    draw: Callable[[Chance], Picture]
    classes: tuple[str, ...]
    version: str = "1"  # raise it if any pixel, label or distance changes
    cues: tuple[str, ...] = field(default=CUES)


def _two(what: str, first: str, second: str) -> tuple[str, ...]:
    return (f"{first} {what}", f"{second} {what}")


TASKS: Mapping[str, Task] = {
    "strips": Task(strips, _two("strip", "red-marked", "green-marked")),
    "strips-independent": Task(strips_independent, _two("strip", "red-marked", "green-marked")),
    "strips-diagonal": Task(strips_diagonal, _two("strip", "red-marked", "green-marked")),
    "strips-blobs": Task(strips_blobs, _two("blob", "red-marked", "green-marked")),
    "scale": Task(scale, ("small square", "medium square", "large square"), cues=("seen", "local")),
    "key": Task(key, _two("key and its discs", "red", "green")),
    "gate": Task(gate, _two("disc", "like", "unlike")),
    "gate-additive": Task(gate_additive, _two("disc", "unset", "set")),
    "mix": Task(mix, _two("disc", "crossed", "parallel")),
    "mix-single": Task(mix_single, _two("disc", "horizontal", "vertical")),
    "fine": Task(fine, ("background", "red line", "green line", "dark disc", "light disc"), cues=("seen",)),
}
