"""Vector numbers and the three allocators: tables of the reference, order, exhaustion, moves."""

from __future__ import annotations

from errno import EBUSY, EINVAL, ENOSPC

import pytest

from nodes.cpu.kernel.irq.system_vectors import EXCEPTIONS, NR_VECTORS, SYSTEM_VECTORS, kind
from nodes.cpu.kernel.irq.vector import VECTOR_UNUSED, VectorSpace, vector_space
from nodes.cpu.kernel.irq.vector_domain import DomainVectors
from nodes.cpu.kernel.irq.vector_global import GlobalVectors
from nodes.cpu.kernel.irq.vector_matrix import MatrixVectors
from nodes.cpu.kernel.params import PRESETS
from tests.nodes.cpu.harness import ERAS

PHYSICAL = PRESETS["3.10"]._replace(msi_destination="physical")


def matrix(cpus: int = 2) -> MatrixVectors:
    return MatrixVectors(PRESETS["6.1"], cpus)


def domains(cpus: int = 2, *, flat: bool = True) -> DomainVectors:
    return DomainVectors(PRESETS["3.10"] if flat else PHYSICAL, cpus)


def new_irq(space: VectorSpace, lowest_free: int, mask: int, online: int) -> int:
    irq = space.msi_irq(lowest_free)
    space.activate(irq, mask, online)
    return irq


# ---------------------------------------------------------------- the numbers


@pytest.mark.parametrize(
    ("role", "numbers"),
    [  # E18 i386, E18 x86_64, E39, E310, E61
        ("SPURIOUS_APIC", (0xFF, 0xFF, 0xFF, 0xFF, 0xFF)),
        ("ERROR_APIC", (0xFE, 0xFE, 0xFE, 0xFE, 0xFE)),
        ("RESCHEDULE", (0xFC, 0xFD, 0xFD, 0xFD, 0xFD)),
        ("CALL_FUNCTION", (0xFB, 0xFC, 0xFC, 0xFC, 0xFC)),
        ("CALL_FUNCTION_SINGLE", (None, None, 0xFB, 0xFB, 0xFB)),
        ("THERMAL_APIC", (0xF0, 0xFA, 0xFA, 0xFA, 0xFA)),
        ("THRESHOLD_APIC", (None, 0xF9, 0xF9, 0xF9, 0xF9)),
        ("REBOOT", (None, None, 0xF8, 0xF8, 0xF8)),
        ("X86_PLATFORM_IPI", (None, None, 0xF7, 0xF7, 0xF7)),
        ("IRQ_WORK", (None, None, 0xF6, 0xF6, 0xF6)),
        ("LOCAL_TIMER", (0xEF, 0xEF, 0xEF, 0xEF, 0xEC)),
        ("IRQ_MOVE_CLEANUP", (None, None, 0x20, 0x20, 0x20)),
        ("MANAGED_IRQ_SHUTDOWN", (None, None, None, None, 0xEF)),
    ],
)
def test_system_vectors_of_each_era(role: str, numbers: tuple[int | None, ...]) -> None:
    eras = ("2.6.18-i386", "2.6.18", "2.6.39", "3.10", "6.1")
    assert tuple(SYSTEM_VECTORS[era].vectors.get(role) for era in eras) == numbers


@pytest.mark.parametrize("era", list(SYSTEM_VECTORS))
def test_no_two_roles_share_a_number_and_devices_end_below_the_system(era: str) -> None:
    layout = SYSTEM_VECTORS[era]
    numbers = sorted(layout.vectors.values())
    assert len(numbers) == len(set(numbers))
    assert all(number >= layout.devices_end for number in numbers if number != 0x20)
    kinds = [kind(vector, era) for vector in range(NR_VECTORS)]
    assert kinds[:0x20] == ["exception"] * 32
    assert kinds[0x80] == "syscall"
    assert kinds[layout.first_device] == "device"
    assert EXCEPTIONS[2] == "NMI"
    assert EXCEPTIONS[14] == "PF"


@pytest.mark.parametrize(
    ("era", "numbers"),
    [
        ("2.6.18", (0xEF, 0xFD, 0xFC, 0xFC)),
        ("3.10", (0xEF, 0xFD, 0xFC, 0xFB)),
        ("6.1", (0xEC, 0xFD, 0xFC, 0xFB)),
    ],
)
def test_the_vectors_that_the_kernel_sends_itself(era: str, numbers: tuple[int, ...]) -> None:
    params = PRESETS[era]
    assert numbers == (
        params.local_timer_vector,
        params.reschedule_vector,
        params.call_function_vector,
        params.call_function_single_vector,
    )


# ---------------------------------------------------------------- 2.6.18


def test_message_irqs_of_2_6_18_are_their_vectors_in_allocation_order() -> None:
    space = vector_space(PRESETS["2.6.18"], 2)
    irqs = [new_irq(space, 24, 1, 3) for _ in range(14)]
    assert irqs == [169, 177, 185, 193, 201, 209, 217, 225, 233, 50, 58, 66, 74, 82]
    assert all(space.cfg[irq].vector == irq for irq in irqs)
    assert all(space.vector_irq[cpu][irq] == irq for irq in irqs for cpu in (0, 1))


def test_isa_pins_of_2_6_18_get_the_first_fourteen_vectors_after_the_timers() -> None:
    space = vector_space(PRESETS["2.6.18"], 1)
    assert space.cfg[0].vector == 0x31
    assert 2 not in space.cfg
    assert [space.cfg[pin].vector for pin in (1, 3, 15)] == [0x39, 0x41, 0xA1]


def test_once_0xee_is_given_out_messages_live_on_released_vectors() -> None:
    space = vector_space(PRESETS["2.6.18"], 1)
    irqs = [new_irq(space, 24, 1, 1)]
    while irqs[-1] != 0xEE:
        irqs.append(new_irq(space, 24, 1, 1))
    with pytest.raises(OSError, match="no released vector") as caught:
        space.msi_irq(24)
    assert caught.value.errno == EBUSY
    space.release(58)
    space.release(50)
    assert new_irq(space, 24, 1, 1) == 50
    assert new_irq(space, 24, 1, 1) == 58


def test_pins_of_2_6_18_share_a_vector_and_its_irq_when_vectors_have_run_out() -> None:
    said: list[str] = []
    space = GlobalVectors(PRESETS["2.6.18"], 1, said.append)
    first = space.assign_pin(16)
    owners = [space.assign_pin(gsi) for gsi in range(17, 250)]
    shared = owners.index(first)
    assert f"GSI {17 + shared} sharing vector 0x{first:02X} and IRQ {first}" in said
    assert not any(f"IRQ {pin}" in line.split("and ")[1].split() for line in said for pin in (1, 3))


def test_i386_says_enospc_where_x86_64_goes_round() -> None:
    space = GlobalVectors(PRESETS["2.6.18"], 1, shares=False)
    for _ in range(0xEF - 0x31 - 1 - 1 - 14):  # less the timer's, 0x80 and the ISA pins'
        space.assign_irq_vector()
    with pytest.raises(OSError, match="no free vector") as caught:
        space.assign_irq_vector()
    assert caught.value.errno == ENOSPC


def test_moving_an_irq_of_2_6_18_changes_no_vector() -> None:
    space = vector_space(PRESETS["2.6.18"], 2)
    irq = new_irq(space, 24, 1, 3)
    assert space.assign(irq, 2, 3) is False
    assert not space.cfg[irq].move_in_progress
    assert space.cfg[irq].target(2, 3) == 1


# ---------------------------------------------------------------- 3.10


@pytest.mark.conformance("K1.2-2")
def test_the_boot_cpu_of_3_10_starts_with_the_isa_pins_and_others_without() -> None:
    space = domains()
    assert [space.vector_irq[0][0x30 + pin] for pin in range(16)] == list(range(16))
    assert set(space.vector_irq[1]) == {VECTOR_UNUSED}
    irq = new_irq(space, 24, 1, 0b01)
    vector = space.cfg[irq].vector
    assert space.vector_irq[1][vector] == VECTOR_UNUSED  # not online yet
    space.cpu_up(1)
    assert [at for at, found in enumerate(space.vector_irq[1]) if found != VECTOR_UNUSED] == [
        vector
    ]


def test_the_order_of_3_10_is_0x41_0x51_and_then_the_next_column() -> None:
    space = domains()
    vectors = [space.cfg[new_irq(space, irq, 1, 3)].vector for irq in range(24, 38)]
    assert vectors == [
        0x41, 0x51, 0x61, 0x71, 0x81, 0x91, 0xA1, 0xB1, 0xC1, 0xD1, 0xE1, 0x22, 0x42, 0x52,
    ]  # fmt: skip


@pytest.mark.conformance("K1.2-1")
def test_one_irq_of_3_10_has_one_number_on_its_whole_domain_and_in_6_1_one_for_each_cpu() -> None:
    space = domains(4)
    irq = new_irq(space, 24, 0b0010, 0b1111)
    vector = space.cfg[irq].vector
    assert [space.vector_irq[cpu][vector] for cpu in range(4)] == [irq] * 4
    later = matrix()
    new_irq(later, 24, 0b01, 0b11)
    moving = new_irq(later, 25, 0b01, 0b11)
    assert later.vector_irq[0][0x22] == moving
    later.assign(moving, 0b10, 0b11)
    assert later.vector_irq[1][0x21] == moving  # another number on the other CPU
    assert later.vector_irq[0][0x22] == moving


def test_a_flat_domain_of_3_10_holds_189_device_vectors() -> None:
    space = domains()
    vectors = [space.cfg[new_irq(space, irq, 1, 3)].vector for irq in range(24, 24 + 189)]
    assert len(set(vectors)) == 189
    with pytest.raises(OSError, match="no free vector") as caught:
        space.assign(1000, 1, 3)
    assert caught.value.errno == ENOSPC
    assert 1000 not in space.cfg


def test_physical_domains_are_one_cpu_and_a_full_one_sends_the_search_to_the_next() -> None:
    space = domains(2, flat=False)
    for irq in range(24, 24 + 189):
        space.assign(irq, 0b01, 0b11)
    with pytest.raises(OSError, match="no free vector"):
        space.assign(1000, 0b01, 0b11)
    space.assign(1000, 0b11, 0b11)
    assert space.cfg[1000].domain == 0b10


def test_within_a_flat_domain_a_move_changes_no_vector() -> None:
    space = domains()
    irq = new_irq(space, 24, 1, 3)
    assert space.assign(irq, 2, 3) is False
    assert space.cfg[irq].target(2, 3) == 1


# ---------------------------------------------------------------- 6.1


def test_the_matrix_takes_the_emptiest_cpu_and_its_lowest_vector() -> None:
    space = matrix()
    places = []
    for irq in range(24, 30):
        new_irq(space, irq, 0b11, 0b11)
        places.append((space.cfg[irq].domain, space.cfg[irq].vector))
    assert places == [(1, 0x21), (2, 0x21), (1, 0x22), (2, 0x22), (1, 0x23), (2, 0x23)]


def test_allocating_only_reserves_and_the_first_handler_makes_it_real() -> None:
    space = matrix()
    space.reserve(24, 0b11)
    assert space.cfg[24].vector == 0xEF
    assert space.reserved == 1
    assert space.available == [201, 201]
    space.activate(24, 0b10, 0b11)
    assert (space.cfg[24].vector, space.cfg[24].domain, space.reserved) == (0x21, 0b10, 0)
    space.deactivate(24, 0b11)
    assert (space.reserved, space.available) == (1, [201, 201])
    space.release(24)
    assert space.reserved == 0


def test_more_reservations_than_vectors_are_warned_of_and_then_refused() -> None:
    said: list[str] = []
    space = MatrixVectors(PRESETS["6.1"], 1, said.append)
    for irq in range(201):
        space.reserve(irq, 1)
    assert said == []
    space.reserve(201, 1)
    assert said == ["Interrupt reservation exceeds available resources"]
    for irq in range(201):
        space.activate(irq, 1, 1)
    with pytest.raises(OSError, match="no free vector") as caught:
        space.activate(201, 1, 1)
    assert caught.value.errno == ENOSPC
    vectors = {space.cfg[irq].vector for irq in range(201)}
    assert len(vectors) == 201
    assert not vectors & {0x20, 0x32, 0x80}


def test_an_irq_whose_cpus_are_full_is_activated_elsewhere_with_a_word() -> None:
    said: list[str] = []
    space = MatrixVectors(PRESETS["6.1"], 2, said.append)
    for irq in range(201):
        space.activate(irq, 0b01, 0b11)
    space.activate(300, 0b01, 0b11)
    assert space.cfg[300].domain == 0b10
    assert said == ["irq 300: Affinity broken due to vector space exhaustion."]


def test_a_mask_that_holds_the_present_cpu_changes_nothing() -> None:
    space = matrix()
    new_irq(space, 24, 0b01, 0b11)
    assert space.assign(24, 0b11, 0b11) is False
    assert space.cfg[24].vector == 0x21
    with pytest.raises(OSError, match="online") as caught:
        space.assign(24, 0b100, 0b11)
    assert caught.value.errno == EINVAL


# ---------------------------------------------------------------- moves


@pytest.mark.conformance("K1.11-1")
@pytest.mark.parametrize("space", [domains(2, flat=False), matrix()])
def test_a_second_move_before_the_cleanup_of_the_first_is_busy(space: VectorSpace) -> None:
    irq = new_irq(space, 24, 0b01, 0b11)
    space.assign(irq, 0b10, 0b11)
    with pytest.raises(OSError, match="not complete") as caught:
        space.assign(irq, 0b01, 0b11)
    assert caught.value.errno == EBUSY
    space.complete_move(irq)
    assert space.assign(irq, 0b01, 0b11) is True


@pytest.mark.conformance("K1.11-2")
@pytest.mark.parametrize("space", [domains(2, flat=False), matrix()])
def test_both_cpus_map_a_moving_irq_until_the_cleanup(space: VectorSpace) -> None:
    irq = new_irq(space, 24, 0b01, 0b11)
    old = space.cfg[irq].vector
    space.assign(irq, 0b10, 0b11)
    new = space.cfg[irq].vector
    assert (space.vector_irq[0][old], space.vector_irq[1][new]) == (irq, irq)
    space.complete_move(irq)
    assert (space.vector_irq[0][old], space.vector_irq[1][new]) == (VECTOR_UNUSED, irq)


@pytest.mark.parametrize("space", [domains(2, flat=False), matrix()])
def test_a_move_that_is_called_off_frees_the_new_slot(space: VectorSpace) -> None:
    irq = new_irq(space, 24, 0b01, 0b11)
    old = space.cfg[irq].vector
    space.assign(irq, 0b10, 0b11)
    space.abandon_move(irq)
    assert set(space.vector_irq[1]) == {VECTOR_UNUSED}
    assert (space.vector_irq[0][old], space.cfg[irq].vector) == (irq, old)
    assert not space.cfg[irq].move_in_progress


@pytest.mark.parametrize("era", ERAS)
def test_giving_vectors_back_many_times_loses_none(era: str) -> None:
    space = vector_space(PRESETS[era], 2)
    for _ in range(200):
        irqs = [new_irq(space, 24 + n, 1 << n % 2, 3) for n in range(3)]
        for irq in irqs:
            space.release(irq)
    mapped = [irq for irq in space.cfg if irq >= 16]
    assert mapped == []


def test_a_moving_irq_that_is_released_leaves_no_slot() -> None:
    space = matrix()
    new_irq(space, 24, 0b01, 0b11)
    space.assign(24, 0b10, 0b11)
    space.release(24)
    assert all(set(slots) == {VECTOR_UNUSED} for slots in space.vector_irq)
    assert space.available == [201, 201]
