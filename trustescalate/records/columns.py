"""Keep numbers and short texts of many rows: in memory while they are few, else in a temporary file.

A million rows then take as much memory as some ten thousand.
"""

import os
import tempfile
import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import IO, TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
Place = int
IN_MEMORY = 1 << 19
"""Bytes of a column in memory; beyond them it lies in a temporary file."""
BLOCK = 1 << 12
"""Bytes that are read from it at a time."""
FEW = 1 << 14
"""Texts that are held in memory, or whose places are."""
NEAR = BLOCK // 8
"""Hashes that are searched in one block."""
SURROGATES = "surrogatepass"


class Lazy(Sequence[T], Generic[T]):
    """A sequence that makes each element when it is asked for; equal to any sequence of equal elements."""

    def _at(self, place: Place) -> T:
        """Make the element of a place that exists."""
        raise NotImplementedError

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[T, ...]: ...
    def __getitem__(self, place: int | slice) -> T | tuple[T, ...]:
        if isinstance(place, slice):
            return tuple(map(self._at, range(len(self))[place]))
        return self._at(place if 0 <= place < len(self) else range(len(self))[place])

    def __iter__(self) -> Iterator[T]:
        return map(self._at, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, more: Sequence[T]) -> tuple[T, ...]:
        return (*self, *more)

    def __radd__(self, before: Sequence[T]) -> tuple[T, ...]:
        return (*before, *self)

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (tuple(self),)  # a copy is whole, and needs no file

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self):,}>"


class Column(Lazy[Any]):
    """Numbers of one type, as `array` names it; they are only appended.

    >>> column = Column("d", [0.5, 1.5])
    >>> column.append(2.5)
    >>> column[1], list(column), column.between(1, 3)
    (1.5, [0.5, 1.5, 2.5], array('d', [1.5, 2.5]))
    """

    def __init__(self, code: str, numbers: "Iterable[float] | NDArray[Any]" = ()) -> None:
        self._code = code
        self._tail: array[Any] = array(code)
        self._most = IN_MEMORY // self._tail.itemsize
        self._in_file = 0
        self._file: IO[bytes] | None = None
        self._block: tuple[int, array[Any]] = 0, array(code)
        self._lock = threading.Lock()
        if hasattr(numbers, "astype"):
            rows: NDArray[Any] = numbers  # type: ignore[assignment]
            for start in range(0, len(rows), self._most):
                self.add_bytes(rows[start : start + self._most].astype(self._code).tobytes())
        else:
            self.extend(numbers)

    def append(self, number: float) -> None:
        """Append a number."""
        if len(self._tail) >= self._most:
            self._move()
        self._tail.append(number)

    def extend(self, numbers: Iterable[float]) -> None:
        """Append numbers."""
        for number in numbers:
            self.append(number)

    def add_bytes(self, numbers: bytes) -> None:
        """Append numbers as they lie in memory."""
        if len(self._tail) + len(numbers) // self._tail.itemsize > self._most:
            self._move()
        self._tail.frombytes(numbers)

    def pop(self) -> None:
        """Leave out the number that was appended last."""
        self._tail.pop()

    def between(self, start: Place, stop: Place) -> "array[Any]":
        """The numbers from one place to before another."""
        tail = start - self._in_file
        if tail >= 0:
            return self._tail[tail : stop - self._in_file]
        first, block = self._block
        if not (first <= start and stop <= first + len(block)):
            end = min(max(stop, start + BLOCK // block.itemsize), self._in_file)
            first, block = self._block = start, self._read(start, end)
        part = block[start - first : stop - first]
        return part if stop <= self._in_file else part + self._tail[: stop - self._in_file]

    def numpy(self) -> "NDArray[Any]":
        """All numbers, in memory."""
        import numpy as np

        return np.concatenate(
            [np.frombuffer(self._read(0, self._in_file), self._code), np.array(self._tail, self._code)]
        )

    def __len__(self) -> int:
        return self._in_file + len(self._tail)

    def __iter__(self) -> Iterator[Any]:
        step = self._most
        for start in range(0, len(self), step):
            yield from self.between(start, min(start + step, len(self)))

    def __getitem__(self, place: Any) -> Any:
        if place.__class__ is int and place >= 0:
            tail = place - self._in_file
            if tail >= 0:
                return self._tail[tail]
            first, block = self._block
            if first <= place < first + len(block):
                return block[place - first]
        return super().__getitem__(place)

    def _at(self, place: Place) -> Any:
        return self.between(place, place + 1)[0]

    def _move(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this object
        self._file.seek(0, os.SEEK_END)
        self._file.write(self._tail.tobytes())
        self._file.flush()
        self._in_file += len(self._tail)
        self._tail = array(self._code)

    def _read(self, start: Place, stop: Place) -> "array[Any]":
        read, size = array(self._code), self._tail.itemsize
        if self._file is not None:
            read.frombytes(read_at(self._file, (stop - start) * size, start * size, self._lock))
        return read

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            self._file.close()  # type: ignore[union-attr]


class Texts(Lazy[str]):
    """Short texts, such as ids; they are only appended.

    >>> list(Texts(["a", "bc"]))
    ['a', 'bc']
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes, self._ends = Column("B"), Column("Q", [0])
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Append a text."""
        self._bytes.add_bytes(text.encode("utf-8", SURROGATES))
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[str]:
        return (
            self._bytes.between(start, stop).tobytes().decode("utf-8", SURROGATES)
            for start, stop in pairwise(self._ends)
        )

    def _at(self, place: Place) -> str:
        start, stop = self._ends.between(place, place + 2)
        return self._bytes.between(start, stop).tobytes().decode("utf-8", SURROGATES)


class Distinct(Generic[T]):
    """Different values, each with a number, by which it stands in `known`."""

    def __init__(self) -> None:
        self.known: list[T] = []
        self._numbers: dict[T, int] = {}

    def number(self, value: T) -> int:
        """The number of a value, which is the next one for a new value."""
        number = self._numbers.setdefault(value, len(self.known))
        if number == len(self.known):
            self.known.append(value)
        return number


class Codes(Lazy[str | None]):
    """Texts of which many are equal, or None: the first `FEW` different ones are held once.

    Further ones lie in a file as they come.

    >>> list(Codes(["a", None, "a"]))
    ['a', None, 'a']
    """

    def __init__(self, values: Iterable[str | None] = ()) -> None:
        self._codes, self._more = Column("I"), Texts()
        self._known: list[str | None] = [None]
        self._numbers: dict[str, int] = {}
        for value in values:
            self.append(value)

    def append(self, value: str | None) -> None:
        """Append a value."""
        code = 0 if value is None else self._numbers.get(value, -1)
        if value is not None and code < 0:
            code = len(self._known) + len(self._more)
            if len(self._known) < FEW:
                self._numbers[value] = code
                self._known.append(value)
            else:
                self._more.append(value)
        self._codes.append(code)

    @property
    def none(self) -> bool:
        """Whether there is nothing but None."""
        return len(self._known) == 1 and not self._more

    def __len__(self) -> int:
        return len(self._codes)

    def __iter__(self) -> Iterator[str | None]:
        return map(self._value, self._codes)

    def _at(self, place: Place) -> str | None:
        return self._value(self._codes[place])

    def _value(self, code: int) -> str | None:
        return self._known[code] if code < len(self._known) else self._more[code - len(self._known)]


class Picked(Lazy[T]):
    """Some elements of a sequence, by their places."""

    def __init__(self, rows: Sequence[T], places: Sequence[Place]) -> None:
        self._rows, self._places = rows, places
        self.none: bool = getattr(rows, "none", False)  # see `Codes`

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[T]:
        return map(self._rows.__getitem__, self._places)

    def _at(self, place: Place) -> T:
        return self._rows[self._places[place]]


def count_different(texts: Iterable[str]) -> int:
    """The number of different texts, in little memory; two count as one with probability 2**-64.

    >>> count_different(["a", "b", "a"])
    2
    """
    import numpy as np

    return len(np.unique(np.fromiter(map(hash, texts), np.int64)))


class Places(Mapping[str, Place]):
    """The place of each of some texts, which differ.

    >>> places = Places(["a", "b"])
    >>> places["b"], "c" in places, list(places)
    (1, False, ['a', 'b'])
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts, self._next = texts, 0
        few = len(texts) <= FEW
        self._few = {text: place for place, text in reversed(list(enumerate(texts)))} if few else None
        if few:
            return
        import numpy as np

        hashes = np.fromiter(map(hash, texts), np.int64, len(texts))
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        self._marks = array("q", hashes[::NEAR].tobytes())  # every so many hashes, to find one in the file
        self._order, self._hashes = Column("I", order), Column("q", hashes)

    def __getitem__(self, text: str) -> Place:
        place = self._find(text)
        if place < 0:
            raise KeyError(text)
        return place

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and self._find(text) >= 0

    def get(self, text: str, default: Any = None) -> Any:
        """The place of a text, or `default`."""
        place = self._find(text)
        return default if place < 0 else place

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def repeated(self) -> Iterator[tuple[Place, Place]]:
        """Each place whose text stood before, with the first place of it."""
        if self._few is not None:
            for place, text in enumerate(self._texts if len(self._few) < len(self._texts) else ()):
                if self._few[text] != place:
                    yield place, self._few[text]
            return
        import numpy as np

        hashes = self._hashes.numpy()
        first: dict[str, Place] = {}
        for at in np.flatnonzero(hashes[1:] == hashes[:-1]).tolist():
            for place in (self._order[at], self._order[at + 1]):
                before = first.setdefault(self._texts[place], place)
                if before != place:
                    yield place, before

    def _find(self, text: str) -> Place:
        if self._few is not None:
            return self._few.get(text, -1)
        place, self._next = self._next, -1
        if 0 <= place < len(self) and self._texts[place] == text:  # texts are mostly looked up in their order
            self._next = place + 1
            return place
        number = hash(text)
        start = max(0, bisect_left(self._marks, number) - 1) * NEAR
        at = start + bisect_left(self._hashes.between(start, min(start + NEAR, len(self))), number)
        while at < len(self) and self._hashes[at] == number:
            match: Place = self._order[at]
            if self._texts[match] == text:
                self._next = match + 1
                return match
            at += 1
        return -1


def read_at(file: IO[bytes], size: int, start: int, lock: threading.Lock) -> bytes:
    """Read so many bytes of an open file from a position; several threads may."""
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), size, start)
    with lock:
        file.seek(start)
        return file.read(size)
