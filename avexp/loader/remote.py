"""An object store by its URL, with the library obstore: s3://, gs://, az:// and file://. No wait is unbounded; a store that
fails, hangs or is slow is one line.

Credentials and endpoints come from the environment, as each provider's tools read it (``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``, ``AWS_ENDPOINT_URL``, ``GOOGLE_APPLICATION_CREDENTIALS``, ``AZURE_STORAGE_*``).
obstore hangs in a child that was forked after its first use; it is refused there instead.
"""

import hashlib
import os
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from avexp.core.config import remote_fault
from avexp.core.errors import ConfigError, DataError

REASON_LETTERS = 200
CHUNK_BYTES = 1 << 20
"""What is handed on at a time: small enough to be hashed and written while it is in the CPU's cache."""
T = TypeVar("T")


@dataclass(frozen=True)
class Bounds:
    """How long and how often a store is asked.

    Attributes:
        attempts: of each request; between them it waits, twice as long each time.
        backoff_s: the first of those waits [s].
        connect_s: to connect [s].
        stall_s: without a byte [s].
        least_mib_s: a store that is slower than this is given up [MiB/s].
        range_mib: one request of a large object [MiB].
        streams: requests at a time for one object.
    """

    attempts: int = 4
    backoff_s: float = 0.25
    connect_s: float = 10.0
    stall_s: float = 30.0
    least_mib_s: float = 0.5
    range_mib: int = 8
    streams: int = 4

    @property
    def request_s(self) -> float:
        """The longest that one request may take [s]."""
        return self.stall_s + self.range_mib / self.least_mib_s

    def object_s(self, size: int) -> float:
        """The longest that an object of so many bytes may take [s]."""
        return self.request_s + size / 2**20 / self.least_mib_s


@dataclass
class _Range:
    """Bytes [start, end) of an object, on their way from one thread to another."""

    start: int
    end: int
    queue: "SimpleQueue[bytes | BaseException]" = field(default_factory=SimpleQueue)
    came: int = 0
    stopped: bool = False

    def chunks(self, deadline: float) -> Iterator[tuple[int, bytes]]:
        """Each with its place. Raises what the other thread met, and Empty at the deadline."""
        start = self.start
        while start < self.end:
            chunk = self.queue.get(timeout=max(0.1, deadline - time.monotonic()))
            if isinstance(chunk, BaseException):
                raise chunk
            yield start, chunk
            start += len(chunk)


@dataclass
class RemoteStore:
    """Objects below a URL. Safe between threads; can be sent to a spawned process.

    Raises:
        ConfigError: an unknown scheme, or no bucket.
    """

    url: str
    bounds: Bounds = field(default_factory=Bounds)

    def __post_init__(self) -> None:
        if fault := remote_fault(self.url):
            raise ConfigError([fault])
        self.url = self.url.rstrip("/")
        self._opened: Any = None
        self._pool: ThreadPoolExecutor | None = None
        self._opening = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.url, self.bounds)

    def where(self, path: str) -> str:
        """The URL of an object."""
        return f"{self.url}/{path}"

    def read(self, path: str) -> bytes:
        """A whole small object.

        Raises:
            DataError: it is not there, or the store fails.
        """
        import obstore

        return self._asked(path, lambda store: bytes(obstore.get(store, path).bytes()))

    def find(self, path: str) -> tuple[int, str] | None:
        """Size [bytes] and entity tag of an object; None if there is none."""
        import obstore

        def ask(store: Any) -> tuple[int, str] | None:
            try:
                facts = obstore.head(store, path)
            except FileNotFoundError:
                return None
            return facts["size"], (facts["e_tag"] or "").strip('"')

        return self._asked(path, ask)

    def folders(self, path: str) -> list[str]:
        """Names of the folders right below a path."""
        import obstore

        found = self._asked(path, lambda store: obstore.list_with_delimiter(store, path)["common_prefixes"])
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    def put_if_absent(self, path: str, content: Any) -> bool:
        """Write an object unless there is one by this name; False if there is.

        Args:
            path: below the URL.
            content: bytes, or a memory map.
        """
        import obstore

        _refuse_after_fork(self.url)
        # a put is one request, however large, and a read time-out would run while it is still sent
        whole_s = self.bounds.object_s(len(content))
        store = _open(self.url, self.bounds, request_s=whole_s, stall_s=whole_s)

        def ask(_: Any) -> bool:
            try:
                obstore.put(store, path, content, mode="create", use_multipart=False)
            except obstore.exceptions.AlreadyExistsError:
                return False
            return True

        return self._asked(path, ask)

    def fetch(self, path: str, handle: int, size: int, sha256: str) -> str:
        """Fetch a whole object into an open file, in a few parallel ranges.

        Args:
            path: below the URL.
            handle: descriptor to write to, from its start.
            size: that the object must have [bytes].
            sha256: that it must have; fetched once more if it has not.

        Returns:
            sha256 of what was written, the one that was asked for.

        Raises:
            DataError: the store fails, hangs or is too slow; or the object is another.
            OSError: the file cannot be written.
        """
        for _ in range(2):
            found = self._fetched(path, handle, size)
            if found == sha256:
                return found
        what = f"its bytes have sha256 {found[:16]}..., not {sha256[:16]}..."
        raise DataError(self.where(path), what, "it was changed or damaged in the store: push it again")

    def digest(self, path: str, size: int) -> str:
        """sha256 of an object, read as a whole and kept nowhere."""
        return self._fetched(path, None, size)

    def _fetched(self, path: str, handle: int | None, size: int) -> str:
        """Ranges come in parallel; this thread alone hashes and writes them, in order, so that nothing is written later."""
        deadline = time.monotonic() + self.bounds.object_s(size)
        digest, length = hashlib.sha256(), self.bounds.range_mib << 20
        starts, pool = iter(range(0, size, length)), self._threads()
        running: deque[_Range] = deque()
        try:
            while True:
                while len(running) < self.bounds.streams and (start := next(starts, None)) is not None:
                    running.append(_Range(start, min(size, start + length)))
                    pool.submit(self._stream, path, running[-1], size, deadline)
                if not running:
                    return digest.hexdigest()
                for start, chunk in running[0].chunks(deadline):
                    digest.update(chunk)
                    if handle is not None:
                        _write_all(handle, chunk, start)
                running.popleft()
        except Empty:
            raise self._slow(path) from None
        finally:
            for one in running:
                one.stopped = True

    def _slow(self, path: str) -> DataError:
        what = f"the object store is slower than {self.bounds.least_mib_s:g} MiB/s"
        return DataError(self.where(path), what, "see what slows it or the network, and repeat")

    def _stream(self, path: str, wanted: "_Range", size: int, deadline: float) -> None:
        """Hand over a range in chunks as they come; asked again it goes on where it was cut."""
        import obstore

        def ask(store: Any) -> None:
            answer = obstore.get(store, path, options={"range": (wanted.start + wanted.came, wanted.end)})
            if answer.meta["size"] != size:
                what = f"has {answer.meta['size']} bytes, {size} were expected"
                raise DataError(self.where(path), what, "it was changed or cut off in the store: push it again")
            for chunk in answer.stream(CHUNK_BYTES):
                if wanted.stopped:
                    return
                wanted.queue.put(chunk)
                wanted.came += len(chunk)
            if wanted.came < wanted.end - wanted.start:
                raise ConnectionError(f"{wanted.came} of {wanted.end - wanted.start} bytes came")

        try:
            self._asked(path, ask, deadline)
        except BaseException as fault:
            wanted.queue.put(fault)

    def _asked(self, path: str, call: Callable[[Any], T], deadline: float | None = None) -> T:
        """Ask, and ask again where that can help."""
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        store = self._store()
        for attempt in range(self.bounds.attempts):
            try:
                return call(store)
            except FileNotFoundError:
                what = "no such object (or no such bucket)"
                raise DataError(self.where(path), what, "check the URL, or push it: avexp dataset push") from None
            except (PermissionDeniedError, UnauthenticatedError) as fault:
                what = f"the object store refuses ({_reason(fault)})"
                raise DataError(self.where(path), what, "check credentials and rights (docs/storage.md)") from None
            except (BaseError, OSError, ValueError) as fault:
                last = fault
            if deadline is not None and time.monotonic() > deadline:
                raise self._slow(path) from None
            if attempt + 1 < self.bounds.attempts:
                time.sleep(self.bounds.backoff_s * 2**attempt * (1 + random.random()))
        what = f"the object store failed {self.bounds.attempts} times ({_reason(last)})"
        remedy = "see that it is up and can be reached (docs/storage.md), and repeat"
        raise DataError(self.where(path), what, remedy) from None

    def _store(self) -> Any:
        _refuse_after_fork(self.url)
        with self._opening:
            if self._opened is None:
                self._opened = _open(self.url, self.bounds, self.bounds.request_s, self.bounds.stall_s)
            return self._opened

    def _threads(self) -> ThreadPoolExecutor:
        with self._opening:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(2 * self.bounds.streams, thread_name_prefix="fetch")
            return self._pool


def _write_all(handle: int, chunk: bytes, start: int) -> None:
    rest = memoryview(chunk)
    while rest:
        written = os.pwrite(handle, rest, start)
        start, rest = start + written, rest[written:]


def _open(url: str, bounds: Bounds, request_s: float, stall_s: float) -> Any:
    from datetime import timedelta

    from obstore.exceptions import BaseError
    from obstore.store import from_url

    if url.startswith("file://"):
        return from_url(url, mkdir=True)
    options: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=bounds.connect_s),
        "read_timeout": timedelta(seconds=stall_s),
        "timeout": timedelta(seconds=request_s),
    }
    if any(os.environ.get(name, "").startswith("http://") for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT")):
        options["allow_http"] = True
    # retried here alone, so that the bounds are ours: 0 there
    retry: dict[str, Any] = {"max_retries": 0, "retry_timeout": timedelta(seconds=request_s)}
    opened: Callable[..., Any] = from_url
    try:
        return opened(url, client_options=options, retry_config=retry)
    except (BaseError, ValueError) as fault:
        raise DataError(url, f"the object store cannot be opened ({_reason(fault)})", "see docs/storage.md") from None


_used_by: list[int] = []


def _refuse_after_fork(url: str) -> None:
    """Raise in a process that was forked from one that has used an object store."""
    if not _used_by:
        _used_by.append(os.getpid())
    if _used_by[0] != os.getpid():
        what = "the object store was used before this process was forked, and would hang here"
        raise DataError(url, what, "start workers by spawn or forkserver, or fetch in the parent")


def _reason(fault: BaseException) -> str:
    """The gist of obstore's text, which is long and has several lines."""
    text = str(fault)
    if "//169.254.169.254" in text or "//metadata.google" in text:
        return "no credentials were found, neither in the environment nor from this machine"
    if found := re.search(r"status code: (\d{3} [A-Za-z ]+)", text):
        code = re.search(r"<Code>(\w+)</Code>", text)
        return found[1] + (f", {code[1]}" if code else "")
    if "TimedOut" in text or "kind: Timeout" in text:
        return "no answer in time"
    if found := re.search(r'message: "([^"]+)"', text):
        host = re.search(r"https?://[^/\s]+", text)
        return found[1] + (f" by {host[0]}" if host else "")
    if "kind: Interrupted" in text:
        return "the connection was cut"
    first = " ".join(text.partition("\n\n")[0].split())
    return first if len(first) <= REASON_LETTERS else first[:REASON_LETTERS] + "..."
