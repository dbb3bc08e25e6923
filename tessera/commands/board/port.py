"""Where the page is served: a port of this machine that nobody else can reach."""

from __future__ import annotations

import errno
import socket

_HOST = "127.0.0.1"


def bound_socket(port: int) -> socket.socket:
    """A socket of 127.0.0.1, which does not listen yet.

    Args:
        port: 0 for a free one.

    Raises:
        OSError: if the port is taken or may not be used; its text is a line.
    """
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((_HOST, port))
    except OSError as error:
        bound.close()
        why = "taken by another program" if error.errno == errno.EADDRINUSE else error.strerror
        raise OSError(f"--port {port} cannot be used: {why}.") from error
    return bound
