"""Pictures of records, as SVG and PNG. One colour for fathom, greys and one warm colour for the others;
every line and point is labelled where it stands. Needs matplotlib."""

import math

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams.update({
    "svg.hashsalt": "fathom", "svg.fonttype": "none", "font.size": 8.5, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#e8e8e8", "grid.linewidth": 0.6,
    "axes.axisbelow": True, "axes.titlesize": 9.5, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "figure.constrained_layout.use": True,
})

from matplotlib import pyplot  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator  # noqa: E402

import records  # noqa: E402

FATHOM, DISK, MEMORY = "#0a5bd3", "#c8501e", "#6d6d6d"
ON_DISK = ("diskann", "lancedb", "zvec", "qdrant")
DPI = 110
RANGE = 500  # from the fastest to the slowest that is drawn where it belongs
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))


def colour(record, variant=None):
    """fathom; what keeps vectors on disk; what keeps all in memory."""
    if record["engine"] == "fathom":
        return FATHOM
    name = variant["name"] if variant else ""
    on_disk = record["engine"] in ON_DISK or "disk" in name or "mapped" in name
    return DISK if on_disk else MEMORY


def save(figure, folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    figure.savefig(folder / f"{name}.png", dpi=DPI, metadata={"Software": None})
    pyplot.close(figure)
    return name


def short(value, _=None):
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def plain_axis(axis):
    """A log axis with 1, 2, 5 in plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=30))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(short))


RECALLS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)


def misses(recall):
    """Recall is drawn by what it misses, on a log scale: .98 to .99 is as far as .90 to .95."""
    return -math.log10(max(1 - recall, 0.0005))


def recall_axis(axes):
    axes.xaxis.set_major_locator(FixedLocator([misses(each) for each in RECALLS]))
    axes.set_xticklabels([f"{each:g}".lstrip("0") for each in RECALLS])
    axes.set_xlabel("recall@10 (log scale of what is missed)")


# ---- labels ----

BESIDE = [(5, 0, "left"), (-5, 0, "right")]
AROUND = [(0, 8, "center"), (0, -9, "center")] + [
    (dx, dy, side) for step in (9, 16, 24, 33, 43, 54, 66, 80, 95)
    for dx, dy, side in ((6, step, "left"), (6, -step, "left"), (-6, step, "right"),
                         (-6, -step, "right"))
]


class Labels:
    """Puts texts beside their points where no other text, point or the frame's edge is."""

    def __init__(self, axes, points):
        self.axes, self.renderer = axes, axes.figure.canvas.get_renderer()
        self.taken = []
        for x, y in points:
            left, bottom = axes.transData.transform((x, y))
            self.taken.append((left - 3, bottom - 3, left + 3, bottom + 3))

    def clashes(self, box):
        frame = self.axes.bbox
        outside = (box[0] < frame.x0 or box[2] > frame.x1 + 4 or box[1] < frame.y0
                   or box[3] > frame.y1)
        return outside or any(
            box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
            for other in self.taken
        )

    def put(self, x, y, text, tone, size=7.5, first=BESIDE):
        """first: which side to try before the others."""
        places = [*first, *(place for place in BESIDE if place not in first), *AROUND]
        for dx, dy, side in places:
            note = self.axes.annotate(
                text, (x, y), xytext=(dx, dy), textcoords="offset points", ha=side, va="center",
                fontsize=size, color=tone, annotation_clip=False,
            )
            extent = note.get_window_extent(self.renderer)
            box = (extent.x0, extent.y0, extent.x1, extent.y1)
            if not self.clashes(box):
                break
            if (dx, dy, side) != places[-1]:
                note.remove()
        self.taken.append(box)
        if abs(dy) > 12:
            self.axes.annotate("", (x, y), xytext=(dx, dy), textcoords="offset points",
                               arrowprops={"arrowstyle": "-", "color": tone, "lw": 0.4})


# ---- QPS against DRAM, all engines ----


def along(axes, line):
    """Places along a line of points, for labels to keep off."""
    ends = [axes.transData.transform(point) for point in line]
    places = [a + (b - a) * step / 20 for a, b in zip(ends, ends[1:]) for step in range(20)]
    return [tuple(axes.transData.inverted().transform(place)) for place in places]


def floor_of(engines):
    """What is slower is drawn at the lower edge, with its figure: one engine that waits for the disk
    must not squeeze all others into a band."""
    return max((run["qps"] for record in engines.values()
                for _, run, _ in records.points(record, records.TARGETS[0])), default=0) / RANGE


def draw_front(figure, axes, engines, target, floor):
    own, others = [], []
    for record in engines.values():
        for dram, run, variant in records.points(record, target):
            place, text = (dram, max(run["qps"], floor)), records.label(record, variant)
            if record["engine"] == "fathom":
                own.append(place)
            else:
                slow = f" ({run['qps']:.0f}/s)" if run["qps"] < floor else ""
                others.append((place, text + slow, colour(record, variant)))
    line = records.front([(x, {"qps": y}) for x, y in own])
    axes.plot([x for x, _ in line], [run["qps"] for _, run in line], color=FATHOM, lw=1.8, zorder=3)
    axes.plot(*zip(*own) if own else ((), ()), "o", color=FATHOM, ms=4.5, zorder=4)
    for (x, y), _, tone in others:
        axes.plot(x, y, "s", color=tone, ms=4.5)
    axes.set(xscale="log", yscale="log")
    axes.set_title(f"recall@10 of at least {target:.2f}")
    plain_axis(axes.xaxis)
    plain_axis(axes.yaxis)
    axes.margins(0.12, 0.12)
    figure.canvas.draw()
    between = along(axes, [(x, run["qps"]) for x, run in line])
    labels = Labels(axes, own + between + [place for place, *_ in others])
    if own:
        labels.put(*own[0], "fathom", FATHOM, 9)
    for (x, y), text, tone in sorted(others, key=lambda each: each[0]):
        labels.put(x, y, text, tone)


def front(folder, name, engines):
    figure, grid = pyplot.subplots(2, 2, figsize=(10, 7.6), sharex=True, sharey=True)
    raw, floor = records.raw_bytes_per_vector(next(iter(engines.values()))), floor_of(engines)
    # All points first, so that the shared axes have their range when labels are put.
    for axes, target in zip(grid.flat, records.TARGETS):
        for record in engines.values():
            for dram, run, _ in records.points(record, target):
                axes.plot(dram, max(run["qps"], floor), alpha=0)
        axes.axvline(raw, color="#999999", lw=0.8, ls=":")
    for axes in grid.flat:
        axes.set(xscale="log", yscale="log")
        axes.margins(0.12, 0.12)
    for axes, target in zip(grid.flat, records.TARGETS):
        draw_front(figure, axes, engines, target, floor)
        axes.text(raw, 0.01, " raw f32", transform=axes.get_xaxis_transform(), fontsize=7,
                  color="#777777", va="bottom")
    for axes in grid[1]:
        axes.set_xlabel("DRAM, bytes per vector (seen from outside)")
    for axes in grid[:, 0]:
        axes.set_ylabel("queries per second, 2 threads")
    figure.suptitle(
        f"{name}: best measured QPS by memory   (blue: fathom, one index; orange: others with "
        "vectors on disk; grey: others in memory)", fontsize=9.5, x=0.01, ha="left")
    return save(figure, folder, f"{name}-front")


# ---- one set in detail ----


def shades(count):
    """From pale to full blue."""
    ramp = matplotlib.colormaps["Blues"]
    return [ramp(0.4 + 0.55 * i / max(count - 1, 1)) for i in range(count)]


def budget_name(variant):
    return f"{variant['dram_bytes_per_vector']:.0f} B"


def curves(engines):
    """(label, variant, colour, whether fathom's) of what is drawn as a line: fathom's budgets, and the
    rivals."""
    for record in engines.values():
        tones = shades(len(record["variants"]))
        for number, variant in enumerate(record["variants"]):
            if record["engine"] == "fathom":
                yield budget_name(variant), variant, tones[number], True
            else:
                yield records.label(record, variant), variant, colour(record, variant), False


def best_line(variant, figure_of, better):
    """Runs by recall, without those that another beats in both."""
    line = []
    for run in sorted(variant["runs"], key=lambda run: -run["recall"]):
        value = figure_of(run)
        if value > 0 and (not line or better(value, line[-1][1])):
            line.append((misses(run["recall"]), value))
    return line[::-1]


def draw_curves(figure, axes, engines, figure_of, better, floor=0, wanted=lambda variant: True):
    """A line for each variant that is wanted; fathom's are labelled at their left, rivals' at their
    right end."""
    ends, lines = [], []
    for number, (text, variant, tone, own) in enumerate(curves(engines)):
        if not wanted(variant):
            continue
        line = [point for point in best_line(variant, figure_of, better)
                if point[0] >= misses(records.RECALL_RANGE[0]) and point[1] >= floor]
        if not line:
            continue
        axes.plot(*zip(*line), "o", ls="-" if own else DASHES[number % len(DASHES)], color=tone,
                  ms=2.5 if own else 2, lw=1.6 if own else 0.9, zorder=3 if own else 2)
        lines.append(line)
        ends.append((*line[0 if own else -1], text, tone, BESIDE[::-1] if own else BESIDE))
    axes.set_yscale("log")
    plain_axis(axes.yaxis)
    recall_axis(axes)
    axes.margins(0.14, 0.06)
    figure.canvas.draw()
    labels = Labels(axes, [place for line in lines for place in (*line, *along(axes, line))])
    for x, y, text, tone, first in sorted(ends, key=lambda end: -end[1]):
        labels.put(x, y, text, tone, 7, first)


def draw_load(axes, load):
    runs = [run for run in load["runs"] if run["answered"]]
    rates = [run["rate"] for run in runs]
    for percentile, style in (("p50", "-o"), ("p99", "--o")):
        values = [run["latency_us"][percentile] / 1e3 for run in runs]
        axes.plot(rates, values, style, color=FATHOM, ms=3, lw=1.3)
        axes.annotate(percentile, (rates[-1], values[-1]), xytext=(6, 0), va="center",
                      textcoords="offset points", color=FATHOM)
    axes.set(yscale="log", xlabel="requests per second, open loop",
             ylabel="ms from the time that was due")
    axes.set_title(f"server at {load['share']:.0%} of raw: latency against load")
    axes.margins(0.14, 0.1)
    plain_axis(axes.yaxis)
    axes.xaxis.set_major_formatter(FuncFormatter(short))


def detail(folder, name, engines):
    figure, (speed, reads, load) = pyplot.subplots(1, 3, figsize=(14, 5.6), width_ratios=(1.6, 1, 1))
    draw_curves(figure, speed, engines, lambda run: run["qps"], lambda a, b: a > b,
                floor_of(engines))
    speed.set_title("QPS against recall; fathom by DRAM per vector")
    speed.set_ylabel("queries per second, 2 threads")
    draw_curves(figure, reads, engines, lambda run: run["reads_per_query"], lambda a, b: a < b,
                wanted=lambda variant: any(run["reads_per_query"] > 0.05 for run in variant["runs"]))
    reads.set_title("4 KiB reads per query")
    own = engines.get("fathom")
    if own and own.get("load"):
        draw_load(load, own["load"])
    else:
        load.set_axis_off()
    return save(figure, folder, f"{name}-detail")


# ---- what it takes to build ----


def builds(engines):
    """The distinct builds: (label, variant, colour). Variants that share one count once."""
    seen = set()
    for record in engines.values():
        own = record["engine"] == "fathom"
        for variant in record["variants"]:
            key = (record["engine"], variant["build_seconds"], variant["index_bytes"])
            if key not in seen:
                seen.add(key)
                text = "fathom" if own else records.label(record, variant)
                yield text, variant, colour(record, variant)


def build(folder, name, engines):
    rows = list(builds(engines))[::-1]
    figure, grid = pyplot.subplots(1, 3, figsize=(12, 0.8 + 0.28 * len(rows)), sharey=True)
    parts = (("build_seconds", 1, "build, seconds (2 threads)"),
             ("build_peak_rss_bytes", 2**20, "peak memory of the build, MiB"),
             ("index_bytes", 2**20, "index on disk, MiB"))
    for axes, (field, unit, title) in zip(grid, parts):
        values = [variant[field] / unit for _, variant, _ in rows]
        axes.barh([text for text, *_ in rows], values, color=[tone for *_, tone in rows],
                  height=0.62)
        for place, value in enumerate(values):
            axes.annotate(f"{value:,.0f}", (value, place), xytext=(3, 0), va="center",
                          textcoords="offset points", fontsize=7.5)
        axes.set_title(title)
        axes.margins(x=0.15)
        axes.grid(axis="y", visible=False)
    return save(figure, folder, f"{name}-build")
