"""Random values of the pure core: few names, addresses and ports, so that they meet."""

from hypothesis import strategies as st

from agent.merge import Registration
from agent.rules import Choice, Identity, Ruling
from state.model import Absence, Instance, InstanceKey, Reason
from tests.core import HOST

ORDER = ("dc1", "dc2", "eureka")
CLUSTERS = ("east", "west")
ALIASES = [HOST, "orders.service.consul", "a.internal", "*.internal", "a_b.internal", "x.svc.cluster.local", ""]
TLS = st.sampled_from(["istio", "disabled"])

clusters = st.none() | st.lists(st.sampled_from(CLUSTERS), max_size=2, unique=True).map(tuple)
labels = st.dictionaries(
    st.sampled_from(["team", "tier", "istio.io/rev", "isthmus.mesh/owner", "a b", ""]) | st.text(max_size=5),
    st.sampled_from(["gold", ""]) | st.text(max_size=5),
    max_size=3,
).map(lambda given: tuple(sorted(given.items())))


@st.composite
def rulings(draw: st.DrawFn, host: str = HOST) -> Ruling:
    ports: st.SearchStrategy[int | str] = st.sampled_from([80, 8080, "instance"])
    return Ruling(
        host=Choice(host, "default"),
        port=draw(st.none() | ports.map(lambda value: Choice(value, "rules[0].port"))),
        protocol=draw(st.none() | st.sampled_from(["HTTP", "TCP"]).map(lambda word: Choice(word, "rules[0].protocol"))),
        labels=draw(labels),
        clusters=draw(clusters),
        aliases=tuple(sorted(draw(st.sets(st.sampled_from(ALIASES), max_size=2)))),
        secure=draw(st.booleans()),
        export_to=draw(st.none() | st.sampled_from([("shop",), (".", "shop"), ("*", "shop"), ("Shop",), ("*",)])),
        identity=draw(st.none() | st.builds(Identity, st.sampled_from(["orders", "Or ders", ""]), TLS)),
        warning=draw(st.booleans()),
        skip=draw(st.sampled_from([None, None, None, Choice(True, "rules[1].skip")])),
    )


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    key = InstanceKey(
        draw(st.sampled_from(["orders", "Orders"])),
        draw(st.sampled_from(["node-1", "node-2"])),
        draw(st.sampled_from(["a", "b", "c", "d"])),
    )
    return Instance(
        key=key,
        address=draw(st.sampled_from(["10.0.0.1", "10.0.0.2", "2001:db8::1", "", "127.0.0.1", "db.internal"])),
        port=draw(st.sampled_from([80, 80, 8443, 0, 65536])),
        absent_because=draw(st.sampled_from([Absence.NONE] * 3 + list(Absence))),
        warning=draw(st.booleans()),
        locality=draw(st.sampled_from(["", "eu", "eu/a", "a/b/c/d"])),
        weight=draw(st.sampled_from([0, 1, 10, 2**32])),
        version=draw(st.sampled_from(["", "v1", "v 1"])),
        service_port=draw(st.sampled_from([0, 0, 8080, 9090])),
        service_port_from="metadata port",
        protocol=draw(st.sampled_from(["", "", "HTTP", "GRPC", "SMTP"])),
        secure_port=draw(st.sampled_from([0, 0, 8443, 80])),
        proven=draw(st.sampled_from(["", "HTTP", "HTTP", "GRPC"])),
        proven_secure=draw(st.sampled_from(["", "HTTPS"])),
        registered=draw(st.integers(0, 3)),
    )


@st.composite
def one_registration(draw: st.DrawFn, reasons: tuple[Reason | None, ...]) -> Registration:
    return Registration(
        registry=draw(st.sampled_from(ORDER)),
        instance=draw(instances()),
        ruling=draw(rulings()),
        waits=draw(st.sampled_from(reasons)),
    )


def registrations(
    reasons: tuple[Reason | None, ...] = (None, None, None, None, *Reason), most: int = 8
) -> st.SearchStrategy[list[Registration]]:
    """Return the registrations of one host; a registry has each only once."""
    return st.lists(one_registration(reasons), max_size=most, unique_by=lambda one: (one.registry, one.instance.key))
