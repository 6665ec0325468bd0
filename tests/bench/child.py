"""Work in a process of its own, told and answering in lines of JSON: nothing measured shares an interpreter."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

Words = dict[str, Any]


class ChildError(RuntimeError):
    """A child ended, or could not do what it was told."""


class Child:
    """One of this package's modules as a child; it ends when its standard input does, so also with us."""

    def __init__(self, module: str) -> None:
        self.module = module
        command = (sys.executable, "-m", f"tests.bench.{module}")
        self._popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def tell(self, **words: object) -> None:
        """Tell the child something, and wait for nothing."""
        assert self._popen.stdin
        self._popen.stdin.write(json.dumps(words).encode() + b"\n")
        self._popen.stdin.flush()

    def hear(self) -> Words:
        """Return the child's next answer."""
        assert self._popen.stdout
        line = self._popen.stdout.readline()
        answer: Words = json.loads(line) if line else {"error": "it ended"}
        if "error" in answer:
            raise ChildError(f"{self.module}: {answer['error']}")
        return answer

    def ask(self, **words: object) -> Words:
        """Tell the child something and return its answer."""
        self.tell(**words)
        return self.hear()

    def close(self) -> None:
        """Let the child end."""
        assert self._popen.stdin
        assert self._popen.stdout
        self._popen.stdin.close()
        try:
            self._popen.wait(5)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._popen.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def told() -> Iterator[Words]:
    """Yield what the parent tells, in the child."""
    for line in sys.stdin:
        yield json.loads(line)


def answer(**words: object) -> None:
    """Answer the parent."""
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def obey(do: Callable[[Words], Mapping[str, Any]]) -> None:
    """Do whatever the parent tells, and answer each time, until it says no more."""
    for words in told():
        try:
            answer(**do(words))
        except Exception as error:  # noqa: BLE001 - the parent raises it
            answer(error=f"{type(error).__name__}: {error}")
