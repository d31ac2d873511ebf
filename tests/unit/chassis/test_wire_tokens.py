"""Tokens prove principals, and nothing proves more than it should."""

import pytest

from chassis import errors
from chassis.identity import Authenticator, Caller, bot_of, caller, caller_metadata, mint_token

_SECRET = "s3cret"


def _authenticate(token, actor=None):
    return Authenticator(_SECRET).authenticate(dict(caller_metadata(token, actor)))


@pytest.mark.parametrize("principal", ["bots/main", "services/router", "operators/anna", "bots/žluťoučký"])
def test_a_minted_token_proves_its_principal(principal):
    assert _authenticate(mint_token(_SECRET, principal)).principal == principal


def test_a_token_with_an_exchanged_principal_is_refused():
    ours = mint_token(_SECRET, "bots/main").split(".")
    theirs = mint_token("another", "operators/root").split(".")
    with pytest.raises(errors.Unauthenticated):
        _authenticate(f"{ours[0]}.{theirs[1]}.{ours[2]}")


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic c2VjcmV0", "s3cret", "Bearer S3cret", "Bearer mb1.."]
)
def test_anything_else_is_refused(header):
    with pytest.raises(errors.Unauthenticated):
        Authenticator(_SECRET).authenticate({"authorization": header})


def test_no_metadata_is_refused():
    with pytest.raises(errors.Unauthenticated, match="Bearer"):
        Authenticator(_SECRET).authenticate({})


def test_the_scheme_s_case_does_not_matter():
    assert Authenticator(_SECRET).authenticate({"authorization": f"bearer {_SECRET}"}).root


def test_an_operator_of_a_name_is_not_root():
    assert not _authenticate(mint_token(_SECRET, "operators/anna")).root
    with pytest.raises(errors.PermissionDenied):
        _authenticate(mint_token(_SECRET, "operators/anna"), "bots/main")


def test_a_refusal_is_not_forgotten_by_a_success_with_the_same_token():
    authenticator = Authenticator(_SECRET)
    token = mint_token(_SECRET, "bots/main")
    authenticator.authenticate(dict(caller_metadata(token, None)))
    with pytest.raises(errors.PermissionDenied):
        authenticator.authenticate(dict(caller_metadata(token, "bots/other")))


def test_an_empty_secret_is_refused():
    with pytest.raises(ValueError, match="empty"):
        Authenticator("")


def test_there_is_no_caller_outside_a_call():
    with pytest.raises(errors.Unauthenticated):
        caller()


@pytest.mark.parametrize(
    ("actor", "bot"), [("bots/main", "main"), ("operators/root", None), ("services/router", None), ("bots/", None)]
)
def test_the_bot_of_a_caller_is_that_of_its_actor(actor, bot):
    assert bot_of(Caller(principal="services/router", root=True, actor=actor)) == bot
