"""One method for each call of the contract: convert, let the store decide and commit, convert back."""

from session_service.servicer.service import SessionServicer as SessionServicer
