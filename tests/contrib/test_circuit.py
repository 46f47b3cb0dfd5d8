"""The states of a circuit: without a thread, without a clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from termai_http.contrib._circuit import CLOSED, HALF_OPEN, OPEN, Circuit, Ticket, Verdict


class TestCircuit:
    """The states, without a thread and without a clock."""

    def test_failures_in_a_row_open_it(self) -> None:
        """A success between them begins the row anew."""
        circuit = Circuit(2, 10.0, 1)
        for verdict in (Verdict.FAILS, Verdict.LIVES, Verdict.FAILS, Verdict.NOTHING):
            assert not circuit.report(passing(circuit), verdict, 0.0)
        assert circuit.state == CLOSED
        assert circuit.report(passing(circuit), Verdict.FAILS, 5.0, "Some 503")
        assert (circuit.state, circuit.opened, circuit.last) == (OPEN, 1, "Some 503")
        assert circuit.admit(5.0, 99.0) is None
        assert (circuit.retry_in(7.0), circuit.refused) == (8.0, 1)

    def test_a_probe_decides(self) -> None:
        """One that succeeds closes the circuit, one that fails opens it for the whole time."""
        circuit = opened()
        probe = circuit.admit(10.0, 99.0)
        assert probe is not None
        assert circuit.state == HALF_OPEN
        assert circuit.admit(10.0, 99.0) is None
        assert circuit.report(probe, Verdict.FAILS, 11.0)
        assert (circuit.state, circuit.retry_in(11.0)) == (OPEN, 10.0)
        probe = circuit.admit(21.0, 99.0)
        assert probe is not None
        assert circuit.report(probe, Verdict.LIVES, 22.0)
        assert (circuit.state, circuit.failed) == (CLOSED, 0)

    def test_a_probe_that_says_nothing_lets_another_try(self) -> None:
        """The circuit stays half-open, and cannot be stuck there."""
        circuit = opened()
        probe = circuit.admit(10.0, 99.0)
        assert probe is not None
        assert not circuit.report(probe, Verdict.NOTHING, 11.0)
        assert circuit.admit(11.0, 99.0) is not None

    @pytest.mark.parametrize(("until", "end"), [(15.0, 15.0), (99.0, 20.0)])
    def test_a_probe_of_which_nothing_is_heard_gives_its_place_to_another(
        self, until: float, end: float
    ) -> None:
        """At its deadline, or after the time that an open circuit waits."""
        circuit = opened()
        lost = circuit.admit(10.0, until)
        assert lost is not None
        assert circuit.retry_in(10.0) == end - 10.0
        assert circuit.admit(end - 0.1, 99.0) is None
        assert circuit.admit(end, 99.0) is not None
        assert circuit.admit(end, 99.0) is None
        assert circuit.state == HALF_OPEN

    @pytest.mark.parametrize(
        ("verdict", "state"),
        [(Verdict.LIVES, CLOSED), (Verdict.FAILS, OPEN), (Verdict.NOTHING, HALF_OPEN)],
    )
    def test_a_late_probe_is_heard(self, verdict: Verdict, state: str) -> None:
        """It asked after the circuit opened; the other one is then too late."""
        circuit = opened()
        late = circuit.admit(10.0, 15.0)
        other = circuit.admit(15.0, 99.0)
        assert late is not None
        assert other is not None
        assert circuit.report(late, verdict, 16.0) is (state != HALF_OPEN)
        assert circuit.state == state
        opposite = Verdict.FAILS if state == CLOSED else Verdict.LIVES
        assert circuit.report(other, opposite, 17.0) is (state == HALF_OPEN)

    def test_only_one_ticket_made_it_half_open(self) -> None:
        """Of several probes one has the change to tell."""
        circuit = opened(3)
        tickets = [circuit.admit(10.0, 99.0) for _ in range(3)]
        assert [ticket and ticket.first for ticket in tickets] == [True, False, False]

    def test_what_began_before_a_change_is_too_late(self) -> None:
        """A call of the good days neither closes an open circuit nor opens it for longer."""
        circuit = Circuit(1, 10.0, 1)
        early = passing(circuit)
        circuit.report(early, Verdict.FAILS, 0.0)
        for verdict in Verdict:
            assert not circuit.report(early, verdict, 5.0)
        assert (circuit.state, circuit.retry_in(5.0)) == (OPEN, 5.0)

    @given(
        st.integers(1, 3),
        st.lists(st.tuples(st.sampled_from(["admit", "report"]), st.sampled_from(list(Verdict)))),
    )
    def test_there_are_never_more_probes_than_allowed(
        self, probes: int, steps: list[tuple[str, Verdict]]
    ) -> None:
        """Whatever the order, and it comes back once the server lives and time passes."""
        circuit, now = opened(probes), 10.0
        out: list[Ticket] = []
        for step, verdict in steps:
            now += 1.0
            if step == "admit" and (ticket := circuit.admit(now, now + 50.0)):
                out.append(ticket)
            elif out:
                circuit.report(out.pop(0), verdict, now)
            leases = circuit.phase.leases
            assert len(leases) <= probes
            assert all(now < end <= now + 10.0 for end in leases.values()) or step == "report"
            assert circuit.state == HALF_OPEN or not leases
            assert (circuit.phase.passing is None) is (circuit.state != CLOSED)
        ticket = circuit.admit(now + 100.0, now + 200.0)
        assert ticket is not None
        circuit.report(ticket, Verdict.LIVES, now + 100.0)
        assert circuit.state == CLOSED


def passing(circuit: Circuit) -> Ticket:
    """Return the ticket that everybody has."""
    ticket = circuit.phase.passing
    assert ticket is not None
    return ticket


def opened(probes: int = 1) -> Circuit:
    """Return a circuit that opened at 0.0, for 10 seconds."""
    circuit = Circuit(1, 10.0, probes)
    circuit.report(passing(circuit), Verdict.FAILS, 0.0)
    return circuit
