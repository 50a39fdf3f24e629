"""Time for each part of the suite, so that the whole is over when it is to be.

What a part is expected to take comes from a table of measured figures. A part for which there is not
the time is not begun; one that takes far longer, or longer than there is, is ended. What is not
measured is told as absent, with the reason. The dearest come last, so that what time does not
suffice for is as little as possible.
"""

import time

# Seconds on two cores, from nothing to the record (docs/adr/0036 has where they come from).
STANDARD = ("sift128", "syn1m", "wordnet", "word100", "passages256", "fashion784")
MEASURED = {
    "fathom": (118, 125, 118, 75, 81, 80), "hnswlib": (68, 142, 23, 10, 13, 15),
    "usearch": (52, 128, 18, 8, 10, 12), "lancedb": (28, 40, 50, 23, 34, 61),
    "zvec": (116, 192, 59, 33, 55, 58), "diskann": (159, 233, 70, 42, 54, 47),
    "faiss": (92, 202, 87, 170, 98, 60), "qdrant": (200, 320, 40, 32, 36, 40),
}
# For other sets: for each set whatever its size (start, sweeps), for each dimension (training, on as
# many vectors of any set) and for a million vectors of 128 dimensions (build).
ROUGHLY = {
    "fathom": (90, 0, 30), "hnswlib": (8, 0, 140), "faiss": (56, 0, 215), "usearch": (8, 0, 145),
    "diskann": (25, 0, 370), "lancedb": (19, 0.08, 15), "zvec": (20, 0, 255), "qdrant": (15, 0, 300),
}
MINUTES = 58.5  # of the whole, building fathom too; making the page, 20 seconds, comes on top
PATIENCE, GRACE_SECONDS = 2.5, 60  # times what was expected; more than it, at the least
DOUBT = 0.9  # a part for which there is less time than this part of what it takes is not begun
# Of the parts that take minutes those that would be missed least: zvec's index is DiskANN's, which
# has been measured on these rows by then; for Qdrant's there is not the time, as a rule.
LAST = {"zvec": 1000000, "qdrant": 500000}  # from so many rows on


def expected_seconds(data, engine):
    """Where it has not been measured: builds cost more with more dimensions, though less than in
    proportion, since half of a step of a graph is not arithmetic."""
    if data["name"] in STANDARD:
        return MEASURED[engine][STANDARD.index(data["name"])]
    each_set, each_dimension, each_million = ROUGHLY[engine]
    return each_set + each_dimension * data["dim"] + each_million * data["rows"] / 1e6 * (128 + data["dim"]) / 256


def comes_last(data, engine):
    return engine in LAST and data["rows"] >= LAST[engine]


def order(parts):
    """fathom everywhere first; then the quickest first; at the end what would be missed least."""
    def key(part):
        data, engine = part
        last = 1 + list(LAST).index(engine) if comes_last(data, engine) else 0
        return engine != "fathom", last, expected_seconds(data, engine)

    return sorted(parts, key=key)


class Timetable:
    """limit_seconds for all; spent_seconds of them by the run that is gone on with."""

    def __init__(self, limit_seconds, spent_seconds=0):
        self.begin = time.monotonic() - spent_seconds
        self.limit_seconds = limit_seconds

    def spent_seconds(self):
        return time.monotonic() - self.begin

    def end(self):
        """By the monotonic clock."""
        return self.begin + self.limit_seconds

    def refusal(self, data, engine):
        """Why a part is not begun: for want of time; None when there is enough. Parts that take less
        may still be had then."""
        left = self.limit_seconds - self.spent_seconds()
        expected = expected_seconds(data, engine)
        if left >= DOUBT * expected:
            return None
        return f"no time left: it takes about {expected:.0f} s, and {max(left, 0):.0f} s were left (--minutes)"

    def until(self, data, engine):
        """By the monotonic clock, when this part is to be over."""
        left = self.limit_seconds - self.spent_seconds()
        expected = expected_seconds(data, engine)
        return time.monotonic() + min(left, max(PATIENCE * expected, expected + GRACE_SECONDS))
