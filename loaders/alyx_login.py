"""Logging in to an Alyx database through the ONE client, never interactively."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from loaders.errors import SourceUnavailable

if TYPE_CHECKING:
    from one.api import OneAlyx

OPENALYX = "https://openalyx.internationalbrainlab.org"
HOW_TO_LOG_IN = (
    "give username= and password=, or token= (shown at {base}/me); or set ALYX_LOGIN and ALYX_PWD, or ALYX_TOKEN; or "
    "log in once with ONE.setup(). Accounts are free: https://openalyx.internationalbrainlab.org/signup. The public "
    "data need no account: source 'bucket'"
)


def connect(
    base_url: str,
    cache: str | Path,
    *,
    username: str | None = None,
    password: str | None = None,
    token: str | None = None,
) -> OneAlyx:
    """A ONE client in remote mode that is logged in.

    Parameters
    ----------
    base_url : str
        Address of the database.
    cache : path
        Cache folder of the client.
    username, password, token : str, optional
        Without any of the three, those of the environment (``ALYX_LOGIN, ALYX_PWD, ALYX_TOKEN``) are taken, and
        without those what ONE saved at an earlier login. A token or password that is given is written nowhere; for a
        password ONE saves the token that it gets, as always.

    Raises
    ------
    SourceUnavailable
        If the database does not answer, or does not accept the login.
    """
    import requests
    from one.api import OneAlyx

    given = {"username": username, "password": password, "token": token}
    if not any(given.values()):
        names = {"username": "ALYX_LOGIN", "password": "ALYX_PWD", "token": "ALYX_TOKEN"}
        given = {key: os.environ.get(name) for key, name in names.items()}
    try:
        with quiet_login():
            one = OneAlyx(base_url=base_url, cache_dir=str(cache), silent=True)
            if any(given.values()):  # a token that was given is not ONE's to save in the home folder
                one.alyx.authenticate(**given, cache_token=not given["token"])
            if not one.alyx.is_logged_in:
                one.alyx.authenticate()
    except (requests.HTTPError, ValueError) as error:  # ONE raises ValueError without a user name
        raise not_logged_in(base_url, getattr(getattr(error, "response", None), "status_code", None)) from None
    except (requests.RequestException, ConnectionError) as error:  # an OSError of the settings is told as it is
        raise unreachable(base_url, error) from error
    return one


@contextmanager
def quiet_login() -> Iterator[None]:
    """Hide what ONE says about logging in: to do it at a prompt; and, in its log for debugging, with which token."""
    log = logging.getLogger("one.webclient")

    def without_token(record: logging.LogRecord) -> bool:  # one a call: other threads take away only theirs
        return "Authorization" not in record.getMessage()

    log.addFilter(without_token)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        log.removeFilter(without_token)


def not_logged_in(base_url: str, status: int | None) -> SourceUnavailable:
    """The error of a missing, wrong or expired login; it never repeats what was given."""
    if status is not None and status >= 500:
        return SourceUnavailable(f"{base_url}: expected an answer to the login, got HTTP {status}; try again later")
    reason = "no login is known" if status is None else f"the login was refused (HTTP {status}): wrong, or expired"
    return SourceUnavailable(f"{base_url}: {reason}; {HOW_TO_LOG_IN.format(base=base_url)}")


def unreachable(base_url: str, error: Exception) -> SourceUnavailable:
    """The error of a server that does not answer."""
    return SourceUnavailable(f"{base_url}: does not answer ({type(error).__name__}); check the network and try again")
