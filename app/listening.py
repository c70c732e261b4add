"""Whether an address can be listened on: found out before anything is started, so that it is one clear sentence."""

import errno
import socket

from app.errors import Conflict, Invalid

NOT_OURS = frozenset({errno.EADDRINUSE, errno.EACCES})


def require_port(host: str, port: int, cure: str) -> None:
    """Raise `Conflict` when *port* of *host* is taken, `Invalid` when *host* is no address of this machine."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, number) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno in NOT_OURS:
            raise Conflict(f"Port {port} on {host} is taken or not permitted: {cure}.", code="port_taken") from error
        raise Invalid(f"This machine cannot listen on {host}: {error.strerror}.", code="host") from error
