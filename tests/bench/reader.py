"""The reader that a poller becomes when it learns to block: one kept-alive blocking `health/state/any`."""

import threading

from tests.bench.child import answer, told
from tests.bench.floor import HEADER, WAIT
from tests.bench.wire import Server, Wire

PATH = "/v1/health/state/any"


def main() -> None:
    """Read the whole registry whenever it changes; answer how often it was read."""
    answers = 0
    begun = threading.Event()

    def read(server: Server) -> None:
        nonlocal answers
        wire = Wire(server)
        index = wire.ask("GET", PATH)[0].headers[HEADER]
        begun.set()
        while True:
            index = wire.ask("GET", f"{PATH}?index={index}&wait={WAIT}")[0].headers[HEADER]
            answers += 1

    for words in told():
        if "server" in words:
            threading.Thread(target=read, args=(Server(**words["server"]),), daemon=True).start()
            begun.wait()
        answer(answers=answers)


if __name__ == "__main__":
    main()
