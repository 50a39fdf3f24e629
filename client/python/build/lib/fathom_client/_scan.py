"""Finds where a MessagePack message ends, before anything is unpacked.

An unpacker allocates what lengths declare: five bytes can ask for gigabytes. The scanner looks at the
heads alone, with bounds on the bytes, the depth and the number of items over the whole message, and can
go on at any byte. Strings and binaries are stepped over, so that the cost is in the items, not the bytes.
"""

from __future__ import annotations

from typing import List, Optional, Tuple

from .errors import ProtocolError

DEPTH_MAX = 8
ITEMS_MAX = 1 << 22

# Of each head byte: how many bytes of length follow it, what it says is in its own low bits (or fixed),
# and what the length counts.
_BYTES, _ITEMS, _PAIRS = 0, 1, 2
_Head = Tuple[int, int, int]  # bytes of the length, fixed length, what it counts


def _make_heads() -> List[Optional[_Head]]:
    heads: List[Optional[_Head]] = [(0, 0, _BYTES)] * 256  # fixints, nil, booleans
    for low in range(16):
        heads[0x80 + low] = (0, low, _PAIRS)
        heads[0x90 + low] = (0, low, _ITEMS)
    for low in range(32):
        heads[0xA0 + low] = (0, low, _BYTES)
    heads[0xC1] = None
    for power in range(3):
        heads[0xC4 + power] = (1 << power, 0, _BYTES)  # bin
        heads[0xC7 + power] = (1 << power, 1, _BYTES)  # ext: and a type byte
        heads[0xD9 + power] = (1 << power, 0, _BYTES)  # str
    for head, size in ((0xCA, 4), (0xCB, 8)):
        heads[head] = (0, size, _BYTES)
    for power in range(4):
        heads[0xCC + power] = heads[0xD0 + power] = (0, 1 << power, _BYTES)
    for power in range(5):
        heads[0xD4 + power] = (0, 1 + (1 << power), _BYTES)  # fixext
    heads[0xDC], heads[0xDD] = (2, 0, _ITEMS), (4, 0, _ITEMS)
    heads[0xDE], heads[0xDF] = (2, 0, _PAIRS), (4, 0, _PAIRS)
    return heads


_HEADS = _make_heads()


class MessageScanner:
    """The state of one message that has arrived in part."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.reset()

    def reset(self) -> None:
        self._at = 0
        self._items_left = ITEMS_MAX
        self._open = [1]  # items still to come, at each level

    def scan(self, data: bytearray) -> Optional[int]:
        """The length of the message at the start of data, or None when it is not whole yet."""
        at, size = self._at, len(data)
        open_items = self._open
        while open_items:
            if at >= size:
                break
            head = _HEADS[data[at]]
            if head is None:
                raise ProtocolError("a message holds a byte that MessagePack does not use (0xc1)")
            length_bytes, length, counts = head
            body = at + 1 + length_bytes
            if length_bytes:
                if body > size:
                    break
                length += int.from_bytes(data[at + 1 : body], "big")
            if counts == _BYTES:
                body += length
            if body > self.bytes_max:
                raise ProtocolError(f"a message is longer than max_reply_bytes ({self.bytes_max})")
            if body > size:
                break
            at = body
            self._take(length * counts)
        self._at = at
        return None if open_items else at

    def _take(self, children: int) -> None:
        """Counts an item that is whole, and opens what it holds."""
        open_items = self._open
        open_items[-1] -= 1
        if children:
            if children > self._items_left:
                raise ProtocolError("a message holds too many items")
            self._items_left -= children
            if len(open_items) == DEPTH_MAX:
                raise ProtocolError("a message is nested too deeply")
            open_items.append(children)
        while open_items and open_items[-1] == 0:
            open_items.pop()
