"""An independent reader of the generator's sentences: from the words and the pixels."""

import math
import re

import numpy as np
from pycocotools import mask as rle

from rrsis_zoo.data.synthetic import CATEGORIES

NAMES = "|".join(sorted(CATEGORIES, key=len, reverse=True))
NOUN = re.compile(rf"(?:(?P<word>\w+) )?(?P<name>{NAMES})")
DIRECTIONS = {
    "right": 0,
    "lower right": 45,
    "below": 90,
    "lower left": 135,
    "left": 180,
    "upper left": 225,
    "above": 270,
}
DIRECTIONS["upper right"] = 315
PLACES = {  # word of the sentence -> the corner or side it means, as (x, y) in -1, 0, 1
    "on the left": (-1, 0),
    "on the right": (1, 0),
    "at the top": (0, -1),
    "in the upper part": (0, -1),
    "at the bottom": (0, 1),
    "in the lower part": (0, 1),
    "in the upper left": (-1, -1),
    "at the top left": (-1, -1),
    "in the upper right": (1, -1),
    "at the top right": (1, -1),
    "in the lower left": (-1, 1),
    "at the bottom left": (-1, 1),
    "in the lower right": (1, 1),
    "at the bottom right": (1, 1),
    "in the middle": (0, 0),
    "in the center": (0, 0),
}
EXTREMES = {"leftmost": (-1, 0), "rightmost": (1, 0), "topmost": (0, -1), "uppermost": (0, -1), "bottommost": (0, 1)}
EXTREMES["lowest"] = (0, 1)


class Slow:
    """Scores how well each object fits a phrase; a referent must win by far. No code or threshold of the generator."""

    def __init__(self, objects, close=0.05):
        self.close = close  # distance of centres below which no direction is told
        self.names = [thing["category"] for thing in objects]
        self.colours = [thing["colour"] for thing in objects]
        self.pixels = [np.argwhere(rle.decode(thing["segmentation"]))[:, ::-1] for thing in objects]
        self.size = objects[0]["segmentation"]["size"][0]
        self.centres = [pixels.mean(axis=0) / self.size for pixels in self.pixels]
        self.all = range(len(objects))

    def noun(self, word, name, among=None):
        """Indices that the noun fits."""
        same = [i for i in self.all if self.names[i] == name]
        if word in (None, "the", "a", "an"):
            return same
        by_size = sorted(same, key=lambda i: len(self.pixels[i]))
        if re.fullmatch("large|larger|largest", word):
            assert len(self.pixels[by_size[-1]]) > 1.5 * len(self.pixels[by_size[-2]])
            return by_size[-1:]
        if re.fullmatch("small|smaller|smallest", word):
            assert len(self.pixels[by_size[0]]) * 1.5 < len(self.pixels[by_size[1]])
            return by_size[:1]
        if word in EXTREMES:
            return [self.winner(same, lambda i: float(np.dot(self.centres[i], EXTREMES[word])), 0.07)]
        return [i for i in same if self.colours[i] == word]

    def winner(self, options, score, margin):
        """The best option; it must beat the second by the margin."""
        ranked = sorted(options, key=score, reverse=True)
        if len(ranked) > 1:
            assert score(ranked[0]) >= score(ranked[1]) + margin
        return ranked[0]

    def off_axis(self, i, anchor, direction):
        """Degrees between the wanted direction and the way from the anchor to the object."""
        dx, dy = self.centres[i] - self.centres[anchor]
        return abs((math.degrees(math.atan2(dy, dx)) - direction + 180) % 360 - 180)

    def gap(self, i, j):
        """Shortest distance between any two pixels of two masks."""
        a, b = self.pixels[i].astype(float), self.pixels[j].astype(float)
        return min(float(np.hypot(*(b - pixel).T).min()) for pixel in a) / self.size

    def refine(self, options, relation, anchors):
        """Keep the options that the relation fits; none may be a near miss."""
        options = [i for i in options if i not in anchors]
        if relation in ("nearest to", "closest to", "farthest from"):
            sign = -1 if relation == "farthest from" else 1
            rivals = [i for i in self.all if self.names[i] == self.names[options[0]] and i not in anchors]
            centre = {i: math.dist(self.centres[i], self.centres[anchors[0]]) for i in rivals}
            best = self.winner(rivals, lambda i: -sign * centre[i], 0.03)
            assert best == self.winner(rivals, lambda i: -sign * self.gap(i, anchors[0]), 0.03)
            return [i for i in options if i == best]
        if relation == "between":
            a, b = (self.centres[anchor] for anchor in anchors)
            detour = {
                i: (math.dist(a, self.centres[i]) + math.dist(self.centres[i], b)) / math.dist(a, b) for i in options
            }
            fits = [i for i in options if detour[i] < 1.2]
            assert all(detour[i] > 1.25 or self.outside(i, a, b) for i in options if i not in fits)
            return [i for i in fits if not self.outside(i, a, b)]
        direction = DIRECTIONS[relation]
        off = {i: self.off_axis(i, anchors[0], direction) for i in options}
        # Along an axis within 28 degrees and others beyond 60; diagonals within 23 and others beyond 32.
        near, far = (28, 60) if direction % 90 == 0 else (23, 32)
        close = [
            i for i in options if off[i] <= far and math.dist(self.centres[i], self.centres[anchors[0]]) > self.close
        ]
        assert all(off[i] <= near for i in close), (relation, off)
        return close

    def outside(self, i, a, b):
        along = np.dot(self.centres[i] - a, b - a) / np.dot(b - a, b - a)
        return not 0.15 <= along <= 0.85

    def read(self, text):
        """The one object that the sentence fits."""
        text = re.sub("^(the|an|a) ", "", text)
        head = NOUN.match(text)
        options = self.noun(head["word"], head["name"])
        rest = text[head.end() :].strip()
        place = rest.removesuffix(" of the image").removesuffix(" side")
        if place in PLACES:
            return self.placed(options, PLACES[place])
        if rest and rest != "in the image":
            for part in self.parts(rest):
                options = self.refine(options, *part)
        assert len(options) == 1
        return options[0]

    def parts(self, rest):
        """Split "to the left of the harbor and above the red ship" into relations with their anchors."""
        noun = rf"the ((?:\w+ )?(?:{NAMES}))"
        found = re.fullmatch(rf"between {noun} and {noun}", rest)
        if found:
            yield "between", [self.anchor(found[1]), self.anchor(found[2])]
            return
        words = (
            "nearest to|closest to|farthest from|above|below|(?:(?:to|on) the )?(?:(?:upper|lower) )?(?:left|right) of"
        )
        matches = list(re.finditer(rf"(?:^|(?<= and ))({words}) {noun}(?= and |$)", rest))
        assert " and ".join(match[0] for match in matches) == rest
        for match in matches:
            relation = re.sub("^(to|on) the ", "", match[1])
            yield re.sub(" of$", "", relation) if relation.endswith(" of") else relation, [self.anchor(match[2])]

    def anchor(self, text):
        (index,) = self.noun(*NOUN.fullmatch(text).group("word", "name"))
        return index

    def placed(self, options, place):
        def misfit(i):
            """How far the centroid lies from the half, the quarter or the middle that is named; 0 inside."""
            if place == (0, 0):
                return max(0.0, float(np.abs(self.centres[i] - 0.5).max()) - 0.15)
            return max(max(0.0, side * (0.5 - c)) for c, side in zip(self.centres[i], place, strict=True))

        fits = [i for i in options if misfit(i) == 0]
        assert len(fits) == 1
        assert all(misfit(i) > 0.05 for i in options if i not in fits)
        return fits[0]
