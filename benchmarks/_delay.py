"""A proxy that makes a network long: ``python -m benchmarks._delay PORT MILLISECONDS``.

It hands bytes on in both directions, each so many milliseconds late, and lets the first ones of a
connection wait for one round trip more, as those that follow a TCP handshake do. It prints its
port, and ends with its stdin.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import sys
import threading
import time

__all__: list[str] = []


def _read(source: socket.socket, line: queue.SimpleQueue[tuple[float, bytes]], late: float) -> None:
    data = b"-"
    while data:
        try:
            data = source.recv(65536)
        except OSError:
            data = b""
        line.put((time.monotonic() + late, data))


def _write(
    target: socket.socket, line: queue.SimpleQueue[tuple[float, bytes]], not_before: float
) -> None:
    with contextlib.suppress(OSError):
        while True:
            due, data = line.get()
            time.sleep(max(max(due, not_before) - time.monotonic(), 0))
            if not data:
                target.shutdown(socket.SHUT_WR)
                return
            target.sendall(data)


def _carry(near: socket.socket, port: int, late: float) -> None:
    far = socket.create_connection(("127.0.0.1", port))
    opened = time.monotonic()
    pumps = []
    # The far side sees the first bytes after its own way and the handshake's round trip.
    for source, target, not_before in ((near, far, opened + 3 * late), (far, near, 0.0)):
        source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        pumps.append(threading.Thread(target=_read, args=(source, line, late), daemon=True))
        pumps.append(threading.Thread(target=_write, args=(target, line, not_before), daemon=True))
    for pump in pumps:
        pump.start()
    for pump in pumps:
        pump.join()
    near.close()
    far.close()


def main() -> None:
    """Carry connections until stdin ends."""
    port, late = int(sys.argv[1]), float(sys.argv[2]) / 1000
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def accept() -> None:
        while True:
            near, _ = listener.accept()
            threading.Thread(target=_carry, args=(near, port, late), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
