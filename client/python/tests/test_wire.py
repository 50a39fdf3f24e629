"""The protocol without sockets: vectors to bytes, bytes to replies, and what is refused."""

import random
import unittest

import msgpack
import numpy as np

from fathom_client import InvalidArgument, ProtocolError
from fathom_client import _wire
from fathom_client._scan import MessageScanner


class Addresses(unittest.TestCase):
    def test_tcp_ipv6_and_unix_addresses_are_parsed(self):
        self.assertEqual(_wire.parse_address("host:1").port, 1)
        self.assertEqual(_wire.parse_address("[::1]:7117").host, "::1")
        self.assertEqual(_wire.parse_address("unix:/a:b").path, "/a:b")

    def test_what_is_no_address_is_refused(self):
        for text in ("", "host", "host:", ":1", "host:0", "host:65536", "::1:1", "[::1]", "unix:"):
            with self.subTest(text), self.assertRaises(InvalidArgument):
                _wire.parse_address(text)


class Vectors(unittest.TestCase):
    def test_wire_types_are_sent_as_they_are(self):
        for name, wire in (("float32", "f32"), ("float16", "f16"), ("int8", "i8"), ("uint8", "u8")):
            array = np.arange(6).reshape(2, 3).astype(name)
            encoded = _wire.encode_vectors(array, None)
            self.assertEqual((encoded.dtype, encoded.n, encoded.dim, encoded.single), (wire, 2, 3, False))
            self.assertEqual(encoded.data, array.tobytes())

    def test_other_real_numbers_become_f32(self):
        for array in ([1, 2], [0.5, 2.0], np.array([1, 2], np.int64), np.array([1, 2], np.float64)):
            encoded = _wire.encode_vectors(array, None)
            self.assertEqual((encoded.dtype, encoded.n, encoded.dim, encoded.single), ("f32", 1, 2, True))
            self.assertEqual(encoded.data, np.asarray(array, "<f4").tobytes())

    def test_byte_order_and_strides_do_not_matter(self):
        array = np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::3]
        expected = array.astype("<f4").tobytes()
        self.assertEqual(_wire.encode_vectors(array, None).data, expected)
        self.assertEqual(_wire.encode_vectors(array.astype(">f4"), None).data, expected)
        self.assertEqual(_wire.encode_vectors(np.asfortranarray(array), None).data, expected)

    def test_values_that_do_not_fit_are_refused(self):
        for values, dtype in (([1e300], None), ([1e300], "f32"), ([70000.0], "f16"), ([200], "i8"),
                              ([-1], "u8"), ([0.5], "u8"), ([float("nan")], "i8")):
            with self.subTest(str(values)), self.assertRaises(InvalidArgument):
                _wire.encode_vectors(values, dtype)
        self.assertEqual(_wire.encode_vectors([1.0, 255.0], "u8").data, b"\x01\xff")

    def test_what_is_no_matrix_of_real_numbers_is_refused(self):
        for vectors in ([], [[]], np.zeros((2, 2, 2)), ["a"], [True], [1j], np.zeros((1025, 1)), np.zeros(4097)):
            with self.subTest(str(np.shape(vectors))), self.assertRaises(InvalidArgument):
                _wire.encode_vectors(vectors, None)
        with self.assertRaises(InvalidArgument):
            _wire.encode_vectors([1.0], "f64")
        for shape, text in (((0, 16), "nothing to search for"), ((1025, 1), "at most 1024"), ((1, 4097), "4097 dimensions")):
            with self.assertRaisesRegex(InvalidArgument, text):
                _wire.encode_vectors(np.zeros(shape), None)


SAMPLES = [
    None, True, 0, -1, 127, 128, -33, 2**32, -(2**40), 2**64 - 1, 0.5, "", "a" * 40, "b" * 300, "c" * 70000,
    b"", b"x" * 300, b"y" * 70000, [], [1, [2, {}]], {"a": {"b": [1.5]}}, list(range(70000)),
    msgpack.ExtType(5, b"1234"), msgpack.ExtType(5, b"12345"), msgpack.ExtType(5, b"z" * 70000),
    {str(i): i for i in range(20)}, {str(i): i for i in range(70000)},
]  # fmt: skip


class Scanner(unittest.TestCase):
    def test_every_kind_of_item_ends_where_it_ends(self):
        for sample in SAMPLES:
            data = bytearray(msgpack.packb(sample))
            self.assertEqual(MessageScanner(1 << 22).scan(data + b"\x00more"), len(data))

    def test_a_message_may_be_split_at_every_byte(self):
        data = msgpack.packb([1, 5, None, {"ids": b"x" * 300, "f": [0.5, "text", {"k": 2**40}]}])
        scanner = MessageScanner(1 << 20)
        for size in range(len(data)):
            self.assertIsNone(scanner.scan(bytearray(data[:size])))
        self.assertEqual(scanner.scan(bytearray(data)), len(data))

    def test_what_would_cost_memory_is_refused(self):
        for data in (b"\xdd\xff\xff\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\xdb\x7f\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
                     b"\x91" * 20, b"\x91\xc1", b"\x9f" + b"\xdd\x00\x3f\xff\xff" * 2, b"\xc9\xff\xff\xff\xff\x01"):
            with self.subTest(data[:6].hex()), self.assertRaises(ProtocolError):
                MessageScanner(1 << 20).scan(bytearray(data))

    def test_eight_levels_are_taken_and_nine_are_not(self):
        self.assertEqual(MessageScanner(100).scan(bytearray(b"\x91" * 8 + b"\xc0")), 9)
        with self.assertRaises(ProtocolError):
            MessageScanner(100).scan(bytearray(b"\x91" * 9 + b"\xc0"))

    def test_the_longest_message_is_taken_and_one_byte_more_is_not(self):
        data = bytearray(msgpack.packb(b"x" * 100))
        self.assertEqual(MessageScanner(len(data)).scan(data), len(data))
        with self.assertRaises(ProtocolError):
            MessageScanner(len(data) - 1).scan(data)

    def test_random_bytes_are_scanned_as_msgpack_reads_them(self):
        draw = random.Random(5)
        whole = 0
        for _ in range(20000):
            data = bytes(draw.randrange(256) for _ in range(draw.randrange(1, 24)))
            unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
            unpacker.feed(data)
            try:
                size = MessageScanner(1 << 16).scan(bytearray(data))
            except ProtocolError:
                continue
            try:
                unpacker.skip()
            except msgpack.OutOfData:
                self.assertIsNone(size)
                continue
            self.assertEqual(size, unpacker.tell())
            whole += 1
        self.assertGreater(whole, 1000)


class Replies(unittest.TestCase):
    def feed(self, *messages):
        return _wire.Wire().feed(b"".join(map(msgpack.packb, messages)))

    def test_replies_are_matched_and_notifications_are_kept_apart(self):
        replies = self.feed([2, "news", [1]], [1, 7, None, "r"], [1, 8, {"code": "not_found", "message": "m"}, None])
        self.assertEqual([(r.msgid, r.result) for r in replies], [(7, "r"), (8, None)])
        self.assertEqual(replies[1].error.code, "not_found")

    def test_the_reason_for_closing_is_kept(self):
        wire = _wire.Wire()
        wire.feed(msgpack.packb([2, "closing", [{"code": "unavailable", "message": "draining"}]]))
        self.assertEqual(wire.closing.message, "draining")

    def test_what_is_no_message_is_refused(self):
        for message in (5, "HTTP/1.1", [1, 2], [1, 2, 3], [5, 1, None, None], [1, "x", None, None], [1, True, None, 1],
                        {"a": 1}, [0, 1, "ping", [{}]]):
            with self.subTest(str(message)), self.assertRaises(ProtocolError):
                self.feed(message)

    def test_search_results_that_do_not_fit_the_question_are_refused(self):
        vectors = _wire.encode_vectors([[1.0, 2.0]], None)
        good = {"ids": b"\0" * 16, "distances": b"\0" * 8, "shape": [1, 2], "generation": 1, "complete": True}
        self.assertEqual(_wire.search_result(good, vectors, 2, False).ids.shape, (1, 2))
        for key, value in (("ids", b"\0" * 15), ("ids", "x" * 16), ("ids", None), ("distances", b""), ("shape", [2, 1]),
                           ("shape", None), ("generation", "1"), ("complete", 1)):
            with self.subTest(key), self.assertRaises(ProtocolError):
                _wire.search_result({**good, key: value}, vectors, 2, False)
        with self.assertRaises(ProtocolError):
            _wire.search_result(good, vectors, 2, True)
        with self.assertRaises(ProtocolError):
            _wire.search_result(None, vectors, 2, False)


if __name__ == "__main__":
    unittest.main()
