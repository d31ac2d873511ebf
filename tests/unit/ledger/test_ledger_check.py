"""The checker must see each kind of harm: a ledger that cannot find fault proves nothing."""

from ledger.check import check
from ledger.model import Fault, Kind, Mail, Seen
from ledger.plan import make_plan

PLACE = "a"


class System:
    """Mail lies at its place's letter; what is asked is answered to `b`."""

    name = "a stand-in for the plan"
    durability = "none"
    kinds = frozenset(Kind)
    faults = frozenset()

    def __init__(self, *complaints):
        self._complaints = complaints

    def places_of(self, mail):
        return (PLACE,)

    def reply_place(self, mail):
        return "b" if mail.kind is Kind.ASK else ""

    def watched(self):
        return self._complaints


def mail(number, kind=Kind.SEND, lane=0):
    return Mail(number, kind, lane, 0)


def story(number, outcome="SUCCEEDED"):
    """What one message leaves in its log when all goes well."""
    run = f"r{number}"
    answered = [Seen("answer", number, run)] if outcome == "SUCCEEDED" else []
    return [Seen("mail", number, run), *answered, Seen("end", 0, run, outcome)]


def judge(log, *mails, states=None, refused=(), system=None, more=None):
    accepted = {each.number: (each, f"r{each.number}") for each in mails or (mail(1),)}
    journal = {PLACE: log, **(more or {})}
    return check(system or System(), accepted, states or {}, journal, refused)


def counts(verdict):
    return len(verdict.lost), len(verdict.doubled), len(verdict.disordered), len(verdict.unexplained)


def test_a_message_with_its_answer_and_its_end_is_in_order():
    verdict = judge(story(1))
    assert verdict.clean
    assert verdict.line(7) == "accepted 1 lost 0 doubled 0 disordered 0 unexplained 0 seed 7"


def test_an_accepted_message_that_lies_nowhere_is_lost():
    assert counts(judge([])) == (1, 0, 0, 0)


def test_a_run_without_an_end_is_lost():
    assert counts(judge(story(1)[:2])) == (1, 0, 0, 0)


def test_a_success_without_its_answer_is_lost():
    log = story(1)
    assert counts(judge([log[0], log[2]])) == (1, 0, 0, 0)


def test_an_answer_that_never_came_as_mail_is_lost():
    assert counts(judge(story(1), mail(1, Kind.ASK))) == (1, 0, 0, 0)
    answered = [Seen("reply", 1, "q"), Seen("end", 0, "q", "SUCCEEDED")]
    assert judge(story(1), mail(1, Kind.ASK), more={"b": answered}).clean


def test_a_message_an_end_or_an_answer_twice_is_doubled():
    for twice in story(1):
        assert counts(judge([*story(1), twice]))[:2] == (0, 1)


def test_an_answer_that_came_twice_as_mail_is_doubled():
    answered = [Seen("reply", 1, "q"), Seen("end", 0, "q", "SUCCEEDED")]
    again = [Seen("reply", 1, "p"), Seen("end", 0, "p", "SUCCEEDED")]
    verdict = judge(story(1), mail(1, Kind.ASK), more={"b": answered + again})
    assert counts(verdict) == (0, 1, 0, 0)


def test_what_a_turn_took_in_is_answered_once_by_that_turn():
    taken_in = [Seen("mail", 2, "r2"), Seen("answer", 2, "r1"), Seen("end", 0, "r2", "SUCCEEDED")]
    for kind in (Kind.STEER, Kind.COLLECT):
        assert judge([*story(1), *taken_in], mail(1), mail(2, kind)).clean
        assert counts(judge([*story(1), taken_in[0], taken_in[2]], mail(1), mail(2, kind))) == (1, 0, 0, 0)
        again = [*story(1), *taken_in, Seen("answer", 2, "r2")]
        assert counts(judge(again, mail(1), mail(2, kind))) == (0, 1, 0, 0)


def test_what_is_steered_may_overtake_and_what_is_collected_may_not():
    wrong = [*story(2), *story(1)]
    assert judge(wrong, mail(1), mail(2, Kind.STEER)).clean
    assert counts(judge(wrong, mail(1), mail(2, Kind.COLLECT))) == (0, 0, 1, 0)


def test_two_messages_of_one_sender_in_the_wrong_order_are_disordered():
    wrong = [*story(2), *story(1)]
    assert counts(judge(wrong, mail(1), mail(2))) == (0, 0, 1, 0)


def test_messages_of_two_senders_have_no_order():
    assert judge([*story(2), *story(1)], mail(1, lane=1), mail(2, lane=2)).clean


def test_what_was_cancelled_has_left_the_line():
    log = [*story(2, "CANCELLED"), *story(1)]
    assert judge(log, mail(1), mail(2, Kind.ABORT)).clean


def test_an_outcome_that_nobody_asked_for_is_unexplained():
    assert counts(judge(story(1, "FAILED"))) == (0, 0, 0, 1)
    assert judge(story(1, "FAILED"), mail(1, Kind.BROKEN)).clean


def test_a_mailbox_that_says_otherwise_than_the_log_is_unexplained():
    assert counts(judge(story(1), states={"r1": "RUNNING"})) == (0, 0, 0, 1)


def test_mail_that_nobody_sent_is_unexplained():
    assert counts(judge([*story(1), *story(9)])) == (0, 0, 0, 1)


def test_an_end_without_a_beginning_is_unexplained():
    assert counts(judge([*story(1), Seen("end", 0, "ghost", "SUCCEEDED")])) == (0, 0, 0, 1)


def test_a_refusal_is_unexplained():
    assert counts(judge(story(1), refused=["send #2 was refused: NOT_FOUND"])) == (0, 0, 0, 1)


def test_what_a_watcher_complains_of_counts():
    system = System("lost events 3 to 4 of a", "doubled event 2 of a", "disordered event 5 of a", "unexplained reset")
    assert counts(judge(story(1), system=system)) == (1, 1, 1, 1)


def test_a_seed_makes_the_same_plan_again():
    assert make_plan(7, 500, System(), strikes=0) == make_plan(7, 500, System(), strikes=0)
    assert make_plan(7, 500, System(), strikes=0) != make_plan(8, 500, System(), strikes=0)


def test_every_fault_strikes_before_one_strikes_twice():
    class Struck(System):
        faults = frozenset({Fault.KILL_ALL, Fault.CUT_SOCKETS, Fault.PAUSE_WORKER})

    strikes = make_plan(7, 600, Struck(), strikes=5).strikes
    assert {strike.fault for strike in strikes[:3]} == Struck.faults
    assert [strike.after for strike in strikes] == [100, 200, 300, 400, 500]
