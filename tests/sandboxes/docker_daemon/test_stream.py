"""What a daemon sends, taken apart; a socket pair stands in for the daemon."""

import socket
import struct

import pytest

from rl_sandboxes.docker_stream import AttachedSocket

STDOUT, STDERR = 1, 2


def piece(stream, data):
    return struct.pack(">BxxxI", stream, len(data)) + data


@pytest.fixture
def daemon():
    ours, theirs = socket.socketpair()
    attached = AttachedSocket(ours)
    yield theirs, attached
    attached.close()
    theirs.close()


def test_stdout_comes_without_headers(daemon):
    theirs, attached = daemon
    theirs.sendall(piece(STDOUT, b"one") + piece(STDOUT, b"two"))
    assert attached.recv(100) == b"onetwo"


def test_no_more_is_received_than_asked_for(daemon):
    theirs, attached = daemon
    theirs.sendall(piece(STDOUT, b"onetwo"))
    assert [attached.recv(2), attached.recv(100)] == [b"on", b"etwo"]


def test_headers_and_data_may_come_byte_by_byte(daemon):
    theirs, attached = daemon
    received = b""
    for byte in piece(STDOUT, b"one") + piece(STDERR, b"no") + piece(STDOUT, b"two"):
        theirs.sendall(bytes([byte]))
        try:
            received += attached.recv(100)
        except BlockingIOError:
            continue
    assert received == b"onetwo"


def test_stderr_is_kept_aside(daemon):
    theirs, attached = daemon
    theirs.sendall(piece(STDERR, b"bad ") + piece(STDOUT, b"one") + piece(STDERR, b"luck"))
    assert (attached.recv(100), attached.stderr) == (b"one", "bad luck")


def test_only_the_end_of_a_flood_on_stderr_is_kept(daemon):
    theirs, attached = daemon
    for _ in range(20):
        theirs.sendall(piece(STDERR, b"x" * 1000))
    theirs.sendall(piece(STDERR, b"the end"))
    assert attached.stderr == "x" * (4096 - len("the end")) + "the end"


def test_nothing_there_would_block(daemon):
    _, attached = daemon
    with pytest.raises(BlockingIOError):
        attached.recv(100)


def test_stderr_alone_would_block(daemon):
    theirs, attached = daemon
    theirs.sendall(piece(STDERR, b"noise"))
    with pytest.raises(BlockingIOError):
        attached.recv(100)


def test_what_came_before_the_end_is_received_first(daemon):
    theirs, attached = daemon
    theirs.sendall(piece(STDOUT, b"last"))
    theirs.close()
    assert [attached.recv(100), attached.recv(100), attached.recv(100)] == [b"last", b"", b""]


def test_a_stream_that_docker_does_not_document_is_an_error(daemon):
    theirs, attached = daemon
    theirs.sendall(b"HTTP/1.1 500 Internal Server Error\r\n")
    with pytest.raises(OSError, match="not what Docker documents"):
        attached.recv(100)


def fill(attached):
    """Send until there is no room; how many bytes that were."""
    sent = 0
    while True:
        try:
            sent += attached.send(b"x" * 65536)
        except BlockingIOError:
            return sent


def test_a_full_socket_loses_nothing(daemon):
    theirs, attached = daemon
    sent, received = fill(attached), 0
    while received < sent:
        received += len(theirs.recv(1 << 20))
    assert received == sent


def test_closing_twice_is_safe(daemon):
    _, attached = daemon
    attached.close()
    attached.close()
    assert attached.fileno() == -1
