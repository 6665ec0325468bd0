"""Every timing constant, in seconds; YAML's ``limits:`` overrides it field by field."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long isthmus waits for what; tests and the demo pass smaller values."""

    # Reading a registry.
    connect_timeout: float = 3.0  # until a registry or an API server has accepted a connection
    read_timeout: float = 10.0  # until a registry answers
    wait: float = 55.0  # a blocking query's longest; Consul adds up to a sixteenth
    retry: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # after a failed read; the last one repeats
    busy_spacing: float = 1.0  # between two catalogue wake-ups while it is busy
    pass_spacing: float = 2.0  # between two passes; ten times the last one's duration if that is more
    sweep: float = 300.0  # between two passes that look for what was missed

    # Trusting what was read (the counts and shares are constants of the guard).
    baseline: float = 600.0  # a baseline is what was left this long ago
    epoch: float = 600.0  # from this age on an epoch counts as old
    release_spacing: float = 60.0  # between two passes that prove a held removal
    empty_grace: float = 60.0  # for the last endpoints of a host, after they were deregistered

    # Writing to a cluster.
    write_timeout: float = 30.0  # until a cluster answers
    backoff: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)  # after a failed write, as above
    rejected_probe: float = 600.0  # what a cluster rejected is tried again
    watch: float = 300.0  # a watch is ended, and begun anew, after this long
    relist: float = 1800.0  # between two complete reads of a cluster
    rescan: float = 10.0  # between two looks at a directory's files
    fight: float = 600.0  # the fourth repair of one object within this time parks it
    service_entry_grace: float = 900.0  # an unneeded ServiceEntry without WorkloadEntries stays this long
    stop: float = 10.0  # for writes in flight at the end

    # Being alive.
    deadline: float = 60.0  # a loop or lane that has been at one step for longer is stuck
