"""The sub-tasks of `diagnostic/<task>`: in each, classes that look alike are told apart by a cue at a known distance.

What decides an object's class is drawn first and the pixels follow from it, so that labels are exact by construction.
The literature behind the design, and what earlier versions got wrong, is in the comments beside the choices.
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

# Colours, each as RGB. Objects are of one colour whatever their class; marks and keys tell it.
_GROUND = (0.46, 0.46, 0.46)
_OBJECT = (0.66, 0.62, 0.46)
_CUE = np.array([(0.85, 0.20, 0.20), (0.20, 0.70, 0.28)], np.float32)  # of class 1 and of class 2
_NEUTRAL = _CUE.mean(axis=0)
_TINT = np.array([(0.10, -0.06, -0.02), (-0.10, 0.06, 0.02)], np.float32)  # of whole objects where the cue is local
_RING = np.array([(0.30, 0.40, 0.62), (0.62, 0.42, 0.30)], np.float32)  # gate: the field around a disc
_SHADE = np.array([(0.40, 0.40, 0.40), (0.62, 0.62, 0.62)], np.float32)  # gate: the disc itself

_AT = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2  # a pixel's centre, from the image's
_Y, _X = _AT[:, None], _AT[None, :]


class Chance:
    """The random numbers of an image, and the parameters that its split draws from.

    Of every range of sizes the held-out images have the odd places and all others the even ones: no size of a test was
    trained on. They have more noise, and a stronger cast of colour on the average.
    """

    def __init__(self, random: np.random.Generator, held_out: bool = False, cue: str = "seen") -> None:
        assert cue in CUES, cue
        self.random, self.held_out, self.cue = random, held_out, cue

    def sizes(self, least: int, most: int, count: int) -> Numbers:
        """So many whole numbers from a range, both ends included."""
        return self.random.choice(np.arange(least, most + 1)[int(self.held_out) :: 2], count)

    def cells(self, side: int, count: int, room: Floats | Numbers) -> tuple[Floats, Floats]:
        """Centres in different cells of a grid, (count,) each; `room` is what each object may not pass, half its side.

        Whole pixels, so that an object of an odd side is exactly centred.
        """
        per_edge = SIDE // side
        chosen = self.random.permutation(per_edge**2)[:count]
        free = side / 2 - np.asarray(room, np.float32) - 1
        shift = self.random.uniform(-1, 1, (2, count)).astype(np.float32) * free
        middle = np.stack(np.divmod(chosen, per_edge)).astype(np.float32) * side + (side - SIDE) / 2
        y, x = np.rint(middle + shift) + np.float32(0.5)
        return y, x

    def balanced(self, count: int) -> Numbers:
        """Class 0 and class 1, each for half of the objects, in random order."""
        return self.random.permutation(np.arange(count) % 2)

    def cue_colours(self, classes: Numbers) -> Floats:
        """The colours of the marks or keys of these classes: neutral where the cue is removed."""
        return np.broadcast_to(_NEUTRAL, (len(classes), 3)) if self.cue == "removed" else _CUE[classes]

    def object_colours(self, classes: Numbers) -> Floats:
        """The colours of the objects: the same for both classes, unless the cue is local."""
        colour = np.array(_OBJECT, np.float32)
        return colour + _TINT[classes] if self.cue == "local" else np.broadcast_to(colour, (len(classes), 3))


class _Canvas:
    """Objects painted over each other: who owns a pixel, and what it is made of."""

    def __init__(self, background: int = IGNORE) -> None:
        self.colour = np.empty((SIDE, SIDE, 3), np.float32)
        self.colour[:] = _GROUND
        # Official code ignores 255. An ignored background leaves the classes alone to be learnt and scored: with one to
        # be learnt, a network first learns contours and stays there (measured), and mIoU is mostly about contours.
        self.label = np.full((SIDE, SIDE), background, np.uint8)
        self.distance = np.full((SIDE, SIDE), NOTHING, np.uint8)

    def objects(self, masks: Mask, classes: Numbers, colours: Floats, cues: Mask | None = None) -> None:
        """Paint objects, masks (N, 96, 96), the last on top, each with its class and with the cue that decides it.

        `cues`: masks (N, 96, 96), or (1, 96, 96) for a cue that all of them share.
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
        """Paint what objects are made of, without a change of class."""
        y, x, owner = _owners(masks)
        self.colour[y, x] = colours[owner]

    def picture(self, chance: Chance, texture: Floats | None = None) -> Picture:
        """The finished image: colours under a cast, uneven light, and noise."""
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
    """Rows and columns of the pixels that any of the masks (N, 96, 96) has, and the last one that has each."""
    number = np.arange(1, len(masks) + 1, dtype=np.uint8)
    owner = (masks * number[:, None, None]).max(axis=0)
    y, x = np.nonzero(owner)
    return y, x, owner[y, x].astype(np.int64) - 1


def _discs(y: Floats, x: Floats, radius: Floats | Numbers) -> Mask:
    """Discs around points, without a lone pixel at each pole: (N, 96, 96)."""
    square = (_Y - y[:, None, None]) ** 2 + (_X - x[:, None, None]) ** 2
    inside: Mask = square <= ((np.asarray(radius, np.float32) + np.float32(0.4)) ** 2)[:, None, None]
    return inside


def _squares(y: Floats, x: Floats, half: Floats) -> Mask:
    """Squares around points, `half` a side from the middle: (N, 96, 96)."""
    inside: Mask = (abs(_Y - y[:, None, None]) <= half[:, None, None]) & (
        abs(_X - x[:, None, None]) <= half[:, None, None]
    )
    return inside


# Lengths, widths, radii, sides: pixels, ranges with both ends included.
_BARS, _BAR_WIDTH, _MARK = 8, 3, 5
_LENGTHS = {False: (48, 79), True: (42, 63)}  # a diagonal one that may lie anywhere is shorter
_LANES = {False: 22, True: 15}  # distance between two parallel bars, on the average
_APART = 6.0  # no mark is nearer to another bar
_LAYOUTS = 48  # drawn at once; the first that fits is taken


def strips(chance: Chance) -> Picture:
    """Long bars that cross each other, 4 horizontal and 4 vertical; the class of each is the colour of its end.

    Pathfinder's idea (Linsley et al. 2018) with labels for pixels. Four bars of either colour in every image: with
    random colours the image's majority, which a norm over the whole image carries, is right for 64 %. The price: who
    counts the other marks in sight guesses better than chance (`segnext.data.tools.probe.counted`).
    """
    return _bars(chance, chance.balanced(_BARS))


def strips_independent(chance: Chance) -> Picture:
    """The same with a colour of its own for every bar: no mark tells of another. For networks of bounded sight."""
    return _bars(chance, chance.random.integers(0, 2, _BARS))


def strips_diagonal(chance: Chance) -> Picture:
    """The same at 45 degrees, along no strip of MSCA's."""
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
    order = chance.random.permutation(_BARS)  # which bar lies on top where two cross
    canvas.objects(bars[order], classes[order], chance.object_colours(classes)[order], marks[order])
    canvas.surfaces(marks, chance.cue_colours(classes))
    return canvas.picture(chance)


def _layout(
    random: np.random.Generator, direction: Floats, length: Numbers, diagonal: bool
) -> tuple[Floats, Floats, Floats]:
    """Where bars lie: across and along their direction, from the image's centre, and which end is marked, 1 or -1.

    Parallel bars have lanes of their own, and no mark touches another bar.
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
    """The same cue on compact bodies: 4 large discs, a mark at the rim of each; nothing is long."""
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
    """Squares of one texture in three sizes, which are the classes, about as much area of each.

    Squares, because the curvature of a small disc's rim tells its size from nearby. The distance is how far a pixel
    has to see for two opposite edges of its square.
    """
    order = chance.random.permutation(4)  # which quarter of the image has which size; one size has two
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
    """Seven discs of one look, and a square key anywhere, whose colour is the class of all of them.

    The class is drawn for each image, so that a split is balanced only roughly: 978 red and 1022 green keys to train
    on, 105 and 95 to test on. One guess for every pixel is right for 46 or 54 % of those 21 pixels away or more.
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
    """Discs of two shades, each in a ring of one of two colours; the class is the exclusive or of the two."""
    shade, ring = (chance.random.permutation(np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (2, 1)))).T
    return _rings(chance, shade, ring, shade ^ ring)


def gate_additive(chance: Chance) -> Picture:
    """The twin that a sum can decide: the second class where shade or ring or both are set, for half of the discs."""
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


_PERIOD = 8  # of stripes


def mix(chance: Chance) -> Picture:
    """Discs with stripes in red and in blue: the second class where both run the same way, which no channel tells."""
    red, blue = (chance.random.permutation(np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (2, 1)))).T
    return _striped(chance, red, blue, (red == blue).astype(np.int64))


def mix_single(chance: Chance) -> Picture:
    """The twin that one channel decides: the class is which way the stripes in red run."""
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
    canvas.distance[bodies.any(axis=0)] = _PERIOD // 2  # half a period around a pixel tells which way stripes run
    return canvas.picture(chance, texture)


def fine(chance: Chance) -> Picture:
    """Lines 2 pixels thick in two colours, and discs a little lighter or darker, under noise in blocks of 4 pixels.

    The blocks are as large as a stride of stage 1 and correlate with nothing; a disc's class needs a mean over many.
    The distance is that to the object's own outside.
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
    """One sub-task: what draws it, its classes, its version, and for which variants it can be drawn."""

    draw: Callable[[Chance], Picture]
    classes: tuple[str, ...]
    version: str = "1"  # a change of any pixel, label or distance raises it
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
