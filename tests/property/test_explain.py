from hypothesis import given

from agent.explaining.hosts import Case, answer
from agent.explaining.sights import RegistrySight, Sights
from agent.explaining.voices import against
from agent.merge import Registration, merge
from agent.rules import carries
from state.model import InstanceKey, Waiting
from tests.core import KEY
from tests.property.core import ORDER, registrations


class Silent:
    """Registries that say nothing: no cluster is asked about."""

    def passed(self, registry: str | None = None) -> bool:
        return registry is None

    def word(self, registry: str, key: InstanceKey) -> None:  # noqa: ARG002 - the protocol's
        return None


def waiting(some: list[Registration], registry: str) -> dict[InstanceKey, Waiting]:
    return {
        one.instance.key: Waiting(key=one.instance.key, reason=one.waits, word=None, since=0.0)
        for one in some
        if one.registry == registry and one.waits is not None
    }


@given(registrations())
def test_what_is_said_of_an_endpoint_is_what_became_of_it(some: list[Registration]) -> None:
    unique = {(one.registry, one.instance.key): one for one in some}
    listed = sorted(unique.values(), key=lambda one: (ORDER.index(one.registry), one.instance.key))
    host = merge(KEY, listed, ORDER)
    registries = {name: RegistrySight(name=name, state="ok", waiting=waiting(listed, name)) for name in ORDER}
    case = Case(key=KEY, registrations=tuple(listed), host=host, here={})
    found = answer(case, Sights(registries=registries, clusters={}), Silent())
    serving = {(one.address, one.port): one.state for one in found.endpoints if one.state in ("in service", "kept")}
    assert serving == {(one.address, one.port): "kept" if one.kept else "in service" for one in host.endpoints}
    assert sum(len(one.voices) for one in found.endpoints) == len(listed)
    for one in found.endpoints:
        assert "nothing says why" not in one.verdict
        assert all(
            voice.counts != bool(voice.overruled) for voice in one.voices if "leaves it out" not in voice.against
        )
        if one.state == "absent":
            assert not any(voice.counts and not voice.against for voice in one.voices) or any(
                voice.counts and voice.against for voice in one.voices
            )


@given(registrations())
def test_a_reason_is_given_exactly_where_a_registration_carries_nothing(some: list[Registration]) -> None:
    for one in some:
        assert bool(against(one.instance, one.ruling)) != carries(one.instance, one.ruling)
