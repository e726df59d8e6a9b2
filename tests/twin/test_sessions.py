"""Who may do what, and that a repeated request is carried out once."""

import threading
from typing import Any

import pytest

from twinscope.errors import ConfigurationError, ForbiddenError, InterlockError, InvalidRequestError
from twinscope.sessions import KEPT_SESSIONS, Identity, Role, Session, SessionBook, fingerprint_of, label_of

ANN = Identity("ann", Role.OPERATOR)


@pytest.fixture
def session() -> Session:
    return Session("secret", ANN, "ann@here")


def test_roles_have_an_order_and_a_name() -> None:
    assert Role.OBSERVER < Role.OPERATOR < Role.ADMIN
    assert [Role.parse(role.name.lower()) for role in Role] == list(Role)


@pytest.mark.parametrize("name", ["root", "", 1, None])
def test_an_unknown_role_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected one of observer, operator, admin"):
        Role.parse(name)


@pytest.mark.parametrize("has", Role)
@pytest.mark.parametrize("needs", Role)
def test_a_role_may_do_what_those_below_it_may(has: Role, needs: Role) -> None:
    session = Session("", Identity("ann", has), "")
    if has >= needs:
        session.require(needs, "this")
    else:
        with pytest.raises(ForbiddenError, match=rf"this needs the role {needs.name.lower()}: ann is") as caught:
            session.require(needs, "this")
        assert caught.value.details == {"role": needs.name.lower()}


def test_the_label_of_a_session_does_not_give_its_secret_away(session: Session) -> None:
    assert session.label == label_of("secret")
    assert "secret" not in session.label


def test_a_session_is_taken_up_again_by_its_id_and_by_nobody_else() -> None:
    book = SessionBook()
    first = book.enter(ANN, "ann@here")
    assert book.enter(ANN, "another connection", first.id) is first
    assert book.enter(ANN, "no id") is not first
    assert book.enter(ANN, "a guess", "0" * 32) is not first
    eve = book.enter(Identity("eve", Role.ADMIN), "eve@there", first.id)
    assert eve is not first
    assert eve.id != first.id
    # The same person with another role is another identity.
    assert book.enter(Identity("ann", Role.ADMIN), "ann@here", first.id) is not first


def test_a_session_from_before_a_restart_is_found_by_the_label_of_its_id(session: Session) -> None:
    told: list[Session] = []
    remembered = Session("", ANN, "ann@here")
    book = SessionBook({session.label: remembered}, told.append)
    assert book.enter(ANN, "ann@here", "secret") is remembered
    assert remembered.label == session.label
    assert told == []
    new = book.enter(ANN, "ann@here")
    assert told == [new]


def test_the_sessions_in_memory_are_bounded_and_the_busy_ones_stay() -> None:
    book = SessionBook()
    first, busy = book.enter(ANN, "first"), book.enter(ANN, "busy")
    for number in range(KEPT_SESSIONS):
        book.enter(ANN, str(number))
        book.enter(ANN, "busy", busy.id)
    assert book.enter(ANN, "busy", busy.id) is busy
    assert book.enter(ANN, "first", first.id) is not first


def test_a_request_that_comes_again_is_carried_out_once(session: Session) -> None:
    book, done = SessionBook(), []
    answers = [book.once(session, "r1", "move", lambda: done.append(1) or len(done)) for _ in range(3)]
    assert answers == [1, 1, 1]
    assert done == [1]
    assert book.once(session, "r2", "move", lambda: done.append(2) or len(done)) == 2


def test_a_request_that_failed_fails_in_the_same_way_again(session: Session) -> None:
    book, tried = SessionBook(), []

    def fail() -> None:
        tried.append(1)
        raise InterlockError("too low", name="z")

    errors = []
    for _ in range(3):
        with pytest.raises(InterlockError, match="too low") as caught:
            book.once(session, "r1", "move", fail)
        errors.append(caught.value)
    assert tried == [1]
    assert errors[0].to_dict() == errors[2].to_dict()


def test_an_id_cannot_be_used_for_two_things(session: Session) -> None:
    book = SessionBook()
    book.once(session, "r1", fingerprint_of("move_to", {"x": 1.0}), lambda: None)
    with pytest.raises(InvalidRequestError, match="'r1' was used for another request"):
        book.once(session, "r1", fingerprint_of("move_to", {"x": 2.0}), lambda: None)


def test_the_same_id_of_two_sessions_is_two_requests() -> None:
    book = SessionBook()
    one, two = book.enter(ANN, "one"), book.enter(ANN, "two")
    assert [book.once(who, "r1", "f", lambda who=who: who.client) for who in (one, two)] == ["one", "two"]


def test_repeats_that_come_while_it_is_carried_out_wait_for_the_one_answer(session: Session) -> None:
    book, begun, finish = SessionBook(), threading.Event(), threading.Event()
    done: list[int] = []
    answers: list[Any] = []

    def act() -> str:
        done.append(1)
        begun.set()
        finish.wait(5)
        return "answer"

    threads = [threading.Thread(target=lambda: answers.append(book.once(session, "r1", "f", act))) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert begun.wait(5)
    assert answers == []
    finish.set()
    for thread in threads:
        thread.join()
    assert done == [1]
    assert answers == ["answer"] * 8


def test_the_answers_in_memory_are_bounded(session: Session) -> None:
    book = SessionBook()
    for number in range(2000):
        book.once(session, str(number), "f", lambda: None)
    assert len(session.answers) < 1000
    assert "1999" in session.answers


def test_what_is_asked_for_is_told_apart_by_verb_and_every_parameter() -> None:
    asked = [
        ("move_to", {"x": 1.0}),
        ("move_to", {"x": 2.0}),
        ("move_to", {"y": 1.0}),
        ("move_to", {"x": 1.0, "y": None}),
        ("approach", {"x": 1.0}),
    ]
    assert len({fingerprint_of(*one) for one in asked}) == len(asked)
    assert fingerprint_of("move_to", {"x": 1.0, "y": 2.0}) == fingerprint_of("move_to", {"y": 2.0, "x": 1.0})
