"""Every row of the bench by its name, in the order in which rows are measured."""

from tests.bench.rows import (
    Measured,
    Place,
    changes,
    cost,
    eureka,
    eureka_load,
    hook,
    memory,
    pooled,
    restart,
    unparked,
    writes,
)

ROWS = (
    Measured("memory", "Memory at 100 instances", Place.SMALL, memory.resident),
    Measured("changes", "Single changes 3 s apart, 100 instances", Place.SMALL, changes.small),
    Measured("writes", "API writes", Place.SMALL, writes.writes),
    Measured("hook", "Watch calls", Place.SMALL, hook.hook),
    Measured("burst", "A burst of registrations", Place.SMALL, pooled.burst),
    Measured("sync", "First sync of 10,000 instances", Place.LARGE, pooled.first_sync),
    Measured("memory-large", "Memory at 10,000 instances", Place.LARGE, memory.resident),
    Measured("parked", "Changes in a parked service, 10,000 instances", Place.LARGE, changes.parked),
    Measured("hinted", "Changes hinted by a watch call, 10,000 instances", Place.LARGE, changes.hinted),
    Measured("watched", "Changes that Consul's own watches tell of, 10,000 instances", Place.LARGE, changes.watched),
    Measured("flips", "Any health flip, 10,000 instances", Place.LARGE, changes.flip_anywhere),
    Measured("unparked", "Registrations that nothing tells of, 1,000 services", Place.LARGE, unparked.unparked),
    Measured("cost", "What a health flip costs Consul, 10,000 instances", Place.LARGE, cost.cost),
    Measured("restart", "A restart with 10,000 instances unchanged", Place.LARGE, restart.restart),
    Measured("eureka-changes", "Single changes in Eureka", Place.EUREKA, eureka.changes),
    Measured("eureka-cached", "Single changes in Eureka through its cache", Place.EUREKA, eureka.cached),
    Measured("eureka-memory", "Memory at 10,000 Eureka instances", Place.EUREKA, eureka_load.resident),
    Measured("eureka-quiet", "Quiet with 10,000 Eureka instances", Place.EUREKA, eureka_load.quiet),
    Measured("eureka-polls", "What a poll of 10,000 instances costs Eureka", Place.EUREKA, eureka_load.polls),
    Measured("eureka-beside", "Changes in Consul beside full reads of Eureka", Place.EUREKA, eureka_load.beside),
)
