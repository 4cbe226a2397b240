"""Images that killed a worker are labelled alone."""

from __future__ import annotations

import threading

from data_jobs.labelling.room import Room

WAIT_S = 30.0


def test_who_is_alone_shares_the_room_with_nobody_and_newcomers_wait() -> None:
    room = Room()
    order: list[str] = []
    first_is_in, first_may_go = threading.Event(), threading.Event()

    def first() -> None:
        with room.together():
            first_is_in.set()
            first_may_go.wait(WAIT_S)
            order.append("first leaves")

    def lonely() -> None:
        with room.alone():
            order.append("alone")

    def late() -> None:
        with room.together():
            order.append("late")

    one = threading.Thread(target=first)
    one.start()
    assert first_is_in.wait(WAIT_S)
    two = threading.Thread(target=lonely)
    two.start()
    while not room._wanting_alone:  # until it stands at the door
        threading.Event().wait(0.001)
    three = threading.Thread(target=late)
    three.start()
    first_may_go.set()
    for thread in (one, two, three):
        thread.join(WAIT_S)
    assert order == ["first leaves", "alone", "late"]


def test_several_are_in_it_at_once() -> None:
    room, meeting = Room(), threading.Barrier(2, timeout=WAIT_S)

    def enter() -> None:
        with room.together():
            meeting.wait()

    threads = [threading.Thread(target=enter) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert not meeting.broken
