"""``isthmus-hook``: tell the agent that a watch of Consul fired. Consul runs it as the watch's script handler.

Run as ``PYTHON -I -S .../send.py``, with no import beyond what that costs: Consul may
start dozens at once. The arguments say which watch it was, and the agent reads the
registry itself, so Consul's JSON on standard input is left unread: no size of it can
matter, and Consul takes no offence. Exits with 0 once the agent has the call, with 1
and a sentence, which Consul logs, if it has not within 2 s, and with 2 for usage. A call that lies in
the queue of a socket that systemd holds is heard all the same, as soon as the agent runs.
"""

import os
import signal
import socket
import sys
from types import FrameType

USAGE = "usage: isthmus-hook --socket PATH REGISTRY (services | nodes | checks | service SERVICE)"
PATIENCE = 2.0  # seconds, for everything: Consul waits for its handlers
DELIVERED = (202, 413)
LARGEST_ANSWER = 65_536  # bytes
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def main() -> int:
    """Deliver the call that the arguments describe; return the exit code."""
    arguments = sys.argv[1:]
    if arguments in (["--help"], ["-h"]):
        sys.stdout.write(f"{USAGE}\n")
        return 0
    if not _are_fit(arguments):
        sys.stderr.write(f"{USAGE}\n")
        return 2
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        problem = _deliver(arguments[1], arguments[2:])
    except OSError as error:
        problem = error.strerror or str(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if problem:
        sys.stderr.write(f"isthmus-hook: not delivered to {arguments[1]}: {problem}\n")
    return 1 if problem else 0


def _are_fit(arguments: list[str]) -> bool:
    if len(arguments) < 4 or arguments[0] != "--socket" or not all(arguments):
        return False
    return arguments[3:-1] == ["service"] or arguments[3:] in (["services"], ["nodes"], ["checks"])


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"no answer within {PATIENCE:g} s")


def _deliver(path: str, called: list[str]) -> str:
    """Return why the agent did not take the call, or nothing; raises OSError when it cannot be reached."""
    # Blocking, so that the kernel waits while a queue is full; the alarm ends all waiting.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        agent.connect(path)
        agent.sendall(_request(called))
        answer = b""
        while len(answer) < LARGEST_ANSWER and (part := agent.recv(LARGEST_ANSWER)):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return "what answers there is no isthmus"
    code = int(words[1])
    return "" if code in DELIVERED else f"answered {code} {body[:200].strip().decode(errors='replace')!r}"


def _request(called: list[str]) -> bytes:
    path = "/".join(_quoted(part) for part in ("v1", "consul", *called))
    index = os.environ.get("CONSUL_INDEX", "")
    header = f"X-Consul-Index: {index}\r\n" if index.isascii() and index.isdigit() else ""
    return f"POST /{path} HTTP/1.1\r\nHost: isthmus\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()


def _quoted(name: str) -> str:
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in os.fsencode(name))


if __name__ == "__main__":
    sys.exit(main())
