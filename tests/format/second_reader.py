"""A second reader of the index format, written from docs/FORMAT.md alone.

It shares no code with libfathom, so that a mistake in the document, or a reader and writer that are wrong together, is
found. It reads whole files into memory and is slow; it never writes. Needs numpy and xxhash.
"""
import json
import struct

import numpy as np
import xxhash

PAGE, HEADER = 4096, 8
PAYLOAD = PAGE - HEADER
KINDS = ["", "manifest", "model", "centroids", "cells", "codes", "factors", "list_pages", "lists", "heat", "ids", "entries",
         "records", "vectors", "scan", "points"]
DTYPES = {1: "<f4", 2: "<f2", 3: "i1", 4: "u1"}
METRICS = {1: "l2", 2: "ip", 3: "cos"}


class FormatError(Exception):
    pass


def checksum(page, generation, kind, number):
    seed = xxhash.xxh3_64_intdigest(struct.pack("<QQQ", generation, kind, number))
    return xxhash.xxh3_64_intdigest(page[HEADER:], seed=seed)


class Index:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        self._read_superblock()
        self.sections = {}
        for i in range(self.section_count):
            entry = struct.unpack_from("<IIIIQQQ24s", self.data, 256 + 64 * i)
            self.sections[KINDS[entry[0]]] = dict(zip(
                ("kind", "row_bytes", "rows_per_page", "pages_per_row", "first_page", "pages", "bytes"), entry))
        self._read_model()

    def _read_superblock(self):
        page = self.data[:PAGE]
        if struct.unpack_from("<Q", page)[0] != checksum(page, 0, 0, 0):
            raise FormatError("superblock checksum")
        if page[8:16] != b"FathoMdx":
            raise FormatError("magic")
        (self.version, self.compat, self.incompat, page_bytes, self.generation, self.pages, self.rows,
         self.zero_rows, self.max_norm) = struct.unpack_from("<IIIIQQQQd", page, 16)
        (self.dim, self.work_dim, dtype, metric, self.cells, self.entry_count, self.degree_max,
         self.list_length_bytes, self.id_bits, self.records_exact, self.external_ids, self.default_search_list,
         self.section_count) = struct.unpack_from("<13I", page, 72)
        if (self.version, self.incompat, page_bytes) != (3, 0, PAGE) or len(self.data) != self.pages * PAGE:
            raise FormatError("version, features or size")
        self.list_bytes, self.usual_row, self.usual_cell = struct.unpack_from("<Q2f", page, 128)
        if any(page[124:128]) or any(page[144:256]) or any(page[256 + 64 * self.section_count:]):
            raise FormatError("superblock reserved fields")
        self.dtype, self.metric = np.dtype(DTYPES[dtype]), METRICS[metric]

    def check_pages(self):
        """The numbers of the pages whose checksum is wrong."""
        bad = []
        for section in self.sections.values():
            for number in range(section["first_page"], section["first_page"] + section["pages"]):
                page = self.data[number * PAGE:(number + 1) * PAGE]
                if struct.unpack_from("<Q", page)[0] != checksum(page, self.generation, section["kind"], number):
                    bad.append(number)
        return bad

    def stream(self, name):
        return self.payloads(name).reshape(-1)[:self.sections[name]["bytes"]].tobytes()

    def payloads(self, name):
        s = self.sections[name]
        pages = np.frombuffer(self.data, np.uint8, s["pages"] * PAGE, s["first_page"] * PAGE).reshape(-1, PAGE)
        return pages[:, HEADER:]

    def rows_of(self, name):
        """A row store as bytes, one row each."""
        s, payloads = self.sections[name], self.payloads(name)
        if s["rows_per_page"]:
            used = payloads[:, :s["rows_per_page"] * s["row_bytes"]]
            return used.reshape(-1, s["row_bytes"])[:self.rows]
        return payloads.reshape(self.rows, -1)[:, :s["row_bytes"]]

    def manifest(self):
        return json.loads(self.stream("manifest"))

    def _read_model(self):
        data = self.stream("model")
        self.code_dim, self.order_count, level_count, reserved, self.step, quantum = struct.unpack_from("<4I2f", data)
        if reserved:
            raise FormatError("model reserved field")
        at = 24
        self.decoded = (np.frombuffer(data, np.uint8, 128, at).astype(np.float32) - 128) * quantum
        at += 128
        self.mean = np.frombuffer(data, "<f4", self.work_dim, at)
        at += 4 * self.work_dim
        scale = np.frombuffer(data, "<f4", self.code_dim, at)
        at += 4 * self.code_dim
        self.sigma = np.frombuffer(data, "<f4", self.code_dim, at)
        at += 4 * self.code_dim
        self.levels = []
        for _ in range(level_count):
            fields = struct.unpack_from("<I6IfIffI16s", data, at)
            self.levels.append(dict(code_bytes=fields[0], groups=fields[1:7], kappa=fields[7], scale_base=fields[8],
                                    offset_min=fields[9], offset_step=fields[10], factor_bytes=fields[11]))
            at += 64
        self.order = np.frombuffer(data, "<u2", self.order_count, at)
        at += (2 * self.order_count + 3) // 4 * 4
        self.origin = np.frombuffer(data, np.uint8, self.work_dim, at).astype(np.float64) - 128
        at += (self.work_dim + 3) // 4 * 4
        rotation = np.frombuffer(data, np.int8, self.code_dim * self.work_dim, at)
        self.rotation = rotation.reshape(self.code_dim, self.work_dim) * scale[:, None]
        if at + self.code_dim * self.work_dim != len(data):
            raise FormatError("model size")

    def ids(self):
        bits = np.unpackbits(np.frombuffer(self.stream("ids"), np.uint8), bitorder="little")
        bits = bits[:self.rows * self.id_bits].reshape(self.rows, self.id_bits).astype(np.uint64)
        return (bits << np.arange(self.id_bits, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)

    def cell_first(self):
        return np.frombuffer(self.stream("cells"), "<u4")

    def entries(self):
        return np.frombuffer(self.stream("entries"), "<u4")

    def centroids(self):
        """Centroids as 8-bit rows."""
        data, dim = np.frombuffer(self.stream("centroids"), np.uint8), self.work_dim
        clumps, blocks, eights = -(-self.cells // 32), -(-self.cells // 16), -(-dim // 8)
        if len(data) != 2 * dim * clumps + blocks * eights * 64:
            raise FormatError("bytes of centroids")
        lows, steps = data[:2 * dim * clumps].astype(np.int64).reshape(clumps, 2, dim).swapaxes(0, 1)
        bytes_ = data[2 * dim * clumps:].reshape(blocks, eights, 16, 4)
        values = np.concatenate([bytes_ & 15, bytes_ >> 4], axis=3)  # [block][eight][cell][of the eight]
        values = values.transpose(0, 2, 1, 3).reshape(blocks * 16, eights * 8)
        if values[self.cells:].any() or values[:, dim:].any():
            raise FormatError("centroids: what belongs to no cell is not zero")
        clump = np.arange(self.cells) // 32
        rows = lows[clump] + steps[clump] * values[:self.cells, :dim]
        if rows.max() > 255 or steps.max() > 15:
            raise FormatError("centroids: a value is above 255")
        return rows

    def lists(self):
        """The neighbours of each row."""
        width = "<u2" if self.list_length_bytes == 2 else np.uint8
        firsts = np.frombuffer(self.stream("list_pages"), "<u4")
        data, self._lengths, out = self.stream("lists"), [], []
        if len(data) != (len(firsts) - 1) * PAYLOAD or firsts[0] != 0 or firsts[-1] != self.rows:
            raise FormatError("pages of lists")
        for number, (first, end) in enumerate(zip(firsts[:-1], firsts[1:])):
            page = data[number * PAYLOAD:(number + 1) * PAYLOAD]
            lengths = np.frombuffer(page, width, int(end - first))
            at = lengths.nbytes
            for row, length in zip(range(first, end), lengths.tolist()):
                out.append(self._list(row, page[at:at + length]))
                at += length
            self._lengths += lengths.tolist()
            if any(page[at:]):
                raise FormatError(f"page {number} of lists: its end is not zero")
        if sum(self._lengths) != self.list_bytes:
            raise FormatError("list lengths do not add up")
        return out

    def list_lengths(self):
        self.lists()
        return self._lengths

    def heat(self):
        """The rank of each row's list: 0 for those that searches need most."""
        return np.frombuffer(self.stream("heat"), np.uint8)

    def _list(self, row, data):
        bits = max(1, (self.rows - 1).bit_length())
        widths = (bits * 5 // 19, bits * 10 // 19, bits * 14 // 19, bits + 1)
        count, at, values = data[0], 1 + (data[0] + 3) // 4, []
        stream = int.from_bytes(data[at:], "little")
        used = 0
        for i in range(count):
            width = widths[data[1 + i // 4] >> (2 * (i % 4)) & 3]
            values.append(stream >> used & (1 << width) - 1)
            used += width
        if at + (used + 7) // 8 != len(data) or stream >> used:
            raise FormatError(f"list of row {row}")
        neighbours = []
        for i, value in enumerate(values):
            if i == 0:
                difference = (value >> 1) ^ -(value & 1)
                neighbours.append((row + difference) & 0xffffffff)
            else:
                neighbours.append(neighbours[-1] + value + 1)
        return neighbours

    def vectors(self):
        """The vectors as the user gave them, in internal order."""
        if not self.records_exact:
            return np.ascontiguousarray(self.rows_of("vectors")).view(self.dtype)
        values = self.rows_of("records").astype(np.int16)
        return (values - 128 + self.mean.astype(np.int16)).astype(self.dtype)

    def record_scales(self):
        """The scale of each record, in steps, as a column."""
        if self.records_exact:
            return np.ones((self.rows, 1), np.float32)
        return np.ascontiguousarray(self.rows_of("records")[:, self.work_dim:]).view("<f4")

    def records(self):
        """The records as work-space vectors."""
        units = self.rows_of("records")[:, :self.work_dim].astype(np.float32) - 128
        return units * self.record_scales() * self.step + self.mean

    def points(self):
        """The operating points: navigator, code bytes, k, search list, refine threshold, and twice, plain and
        re-ranked: recall, its lower end, reads."""
        data = self.stream("points") if "points" in self.sections else b""
        return [struct.unpack_from("<4I7f", data, at) for at in range(0, len(data), 48)]

    def codes(self):
        """Codes in order of worth, from their bands."""
        data, columns, at = np.frombuffer(self.stream("codes"), np.uint8), [], 0
        for first in range(0, self.order_count, 16):
            width = min(16, self.order_count - first)
            columns.append(data[at:at + width * self.rows].reshape(self.rows, width))
            at += width * self.rows
        return np.concatenate(columns, axis=1)

    def scan(self):
        """Codes and packed factors of section scan, and the level that they are of."""
        short = [n for n, level in enumerate(self.levels) if 8 * level["code_bytes"] <= self.work_dim]
        level, section = short[-1] if short else 0, self.sections["scan"]
        width, factor_bytes = self.levels[level]["code_bytes"], self.levels[level]["factor_bytes"]
        if section["row_bytes"] != width + factor_bytes:
            raise FormatError("row bytes of scan")
        pages, count = self.payloads("scan"), section["rows_per_page"]
        codes = pages[:, :count * width].reshape(-1, width)[:self.rows]
        factors = np.ascontiguousarray(pages[:, PAYLOAD - count * factor_bytes:]).view(f"<u{factor_bytes}")
        units = [int(unit) for unit in self.order[:width]]
        worth = np.empty_like(codes)
        worth[:, np.argsort(units, kind="stable")] = codes  # a unit is plane << 12 | group
        return worth, factors.reshape(-1)[:self.rows], level

    def packed_factors(self, level):
        """The factors of each row at a level, as they are stored."""
        width = self.levels[level]["factor_bytes"]
        at = self.rows * sum(below["factor_bytes"] for below in self.levels[:level])
        return np.frombuffer(self.stream("factors"), f"<u{width}", self.rows, at)

    def _factors(self, level):
        """Scale and offset of each row."""
        info = self.levels[level]
        offset_bits, shift = (9, 18) if info["factor_bytes"] == 2 else (16, 10)
        packed = self.packed_factors(level).astype(np.uint32)
        scale = np.uint32(info["scale_base"]) + ((packed >> np.uint32(offset_bits)) << np.uint32(shift))
        offset = info["offset_min"] + info["offset_step"] * (packed & np.uint32(2 ** offset_bits - 1))
        return scale.view(np.float32), offset

    def estimate(self, level, query_units):
        """Estimated squared distances (row units) of all rows to a work-space query in row units."""
        info, codes = self.levels[level], self.codes()
        bits = np.zeros((self.rows, self.code_dim), np.uint32)
        count = np.zeros(self.code_dim, np.uint32)
        for i in range(info["code_bytes"]):
            plane, group = self.order[i] >> 12, self.order[i] & 0xfff
            lane = slice(group * 8, group * 8 + 8)
            one = np.unpackbits(codes[:, i:i + 1], axis=1, bitorder="little").astype(np.uint32)
            bits[:, lane] |= one << (6 - np.uint32(plane))
            count[lane] += 1
        decoded = self.decoded[bits | (1 << (6 - count))] * self.sigma
        scale, offset = self._factors(level)
        cell = np.repeat(np.arange(self.cells), np.diff(self.cell_first()))
        base = ((query_units - (self.centroids().astype(np.float64) - 128)) ** 2).sum(axis=1)[cell]
        return base + offset - 2 * scale * (decoded @ (self.rotation @ (query_units - self.origin)))
