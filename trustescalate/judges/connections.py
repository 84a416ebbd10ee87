"""Say in words why a connection to an endpoint failed."""

import socket
import ssl
from collections.abc import Iterator


def connection_error(error: BaseException, place: str) -> str:
    """Name the cause of a failed connection to the address `place`.

    >>> connection_error(ConnectionRefusedError(111, "refused"), "http://localhost:8000/v1")
    'connection refused: nothing listens at http://localhost:8000/v1; is the server started?'
    """
    return next(filter(None, (_named(cause, place) for cause in causes(error))), "") or (
        f"the server at {place} closed the connection, or does not speak HTTP"
    )


def _named(cause: BaseException, place: str) -> str:
    match cause:
        case ConnectionRefusedError():
            text = f"connection refused: nothing listens at {place}; is the server started?"
        case socket.gaierror():
            text = f"DNS: the host of {place} is unknown; check base_url and the network"
        case ssl.SSLCertVerificationError():
            text = f"TLS: the certificate of {place} is not trusted ({cause.verify_message})"
        case ssl.SSLError():
            text = f"TLS: {place} does not speak https; try http:// in base_url"
        case TimeoutError():
            text = f"no connection to {place} in time: a wrong address, or a firewall"
        case OSError() if cause.strerror:
            text = f"no connection to {place}: {cause.strerror}"
        case _:
            text = ""
    return text


def causes(error: BaseException) -> Iterator[BaseException]:
    """The chain of an error, the innermost first."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return reversed(chain)
