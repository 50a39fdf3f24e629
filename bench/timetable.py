"""Time for each part of the suite, so that the whole is over when it is to be.

What a part is expected to take comes from a table of measured figures. A part that takes far longer,
or longer than there is, is ended; what it has not measured by then is told as absent. The dearest
come last, so that what time does not suffice for is as little as possible.
"""

import time

# engine -> seconds on two cores: for each set whatever its size (start, sweeps), for each dimension
# (training, on as many vectors of any set) and for a million vectors of 128 dimensions (build).
# docs/adr/0025 has the measurements.
EXPECTED = {
    "fathom": (85, 0, 30), "hnswlib": (8, 0, 140), "faiss": (60, 0, 240), "usearch": (6, 0, 150),
    "diskann": (25, 0, 370), "lancedb": (20, 0.22, 20), "zvec": (20, 0, 255),
}
PATIENCE = 2.5  # times what was expected


def expected_seconds(data, engine):
    """Builds cost more with more dimensions, though less than in proportion: half of a step of a
    graph is not arithmetic."""
    each_set, each_dimension, each_million = EXPECTED[engine]
    return each_set + each_dimension * data["dim"] + each_million * data["rows"] / 1e6 * (128 + data["dim"]) / 256


def order(parts):
    """fathom everywhere first; then the quickest first."""
    return sorted(parts, key=lambda part: (part[1] != "fathom", expected_seconds(*part)))


class Timetable:
    """limit_seconds for all; spent_seconds of them by the run that is gone on with."""

    def __init__(self, limit_seconds, spent_seconds=0):
        self.begin = time.monotonic() - spent_seconds
        self.limit_seconds = limit_seconds

    def spent_seconds(self):
        return time.monotonic() - self.begin

    def until(self, data, engine):
        """By the monotonic clock, when this part is to be over."""
        left = self.limit_seconds - self.spent_seconds()
        return time.monotonic() + min(left, PATIENCE * expected_seconds(data, engine))
