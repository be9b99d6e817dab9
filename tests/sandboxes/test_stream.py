"""A worker behind a stream: whatever comes is a message or the loss of the worker."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_sandboxes.inside.frames import MAX_FRAME, pack, read_frame
from rl_sandboxes.pool import WorkerLostError
from rl_sandboxes.stream import StreamWorker

LONG = 30.0
"""Seconds after which a test that waits has failed."""


class Ends:
    """The worker and its far end."""

    def __init__(self, describe=lambda: ""):
        near, self.far = socket.socketpair()
        self.ended = []
        self.worker = StreamWorker(near, lambda: self.ended.append(True), describe)

    def receive(self, data=None, *, close=True):
        """What the worker makes of these bytes, behind which the stream ends."""
        if data is not None:
            self.far.sendall(data)
        if close:
            self.far.shutdown(socket.SHUT_WR)
        return self.worker.receive(time.monotonic() + LONG)

    def close(self):
        self.worker.kill()
        self.far.close()


@pytest.fixture
def ends():
    made = Ends()
    yield made
    made.close()


def framed(body):
    return struct.pack(">I", len(body)) + body


MESSAGES = st.dictionaries(
    st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(st.characters())
)


@settings(deadline=None)
@given(st.lists(MESSAGES, min_size=1, max_size=4))
def test_messages_come_as_they_were_packed(messages):
    made = Ends()
    try:
        made.far.sendall(b"".join(map(pack, messages)))
        assert [made.receive(close=False) for _ in messages] == messages
    finally:
        made.close()


@settings(deadline=None, max_examples=30)
@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_the_loss(data):
    made = Ends()
    try:
        assert isinstance(made.receive(data), dict)
    except WorkerLostError:
        pass
    finally:
        made.close()


def test_a_message_that_comes_byte_by_byte_is_read(ends):
    message = {"ready": True, "text": "é\ud800"}
    reading = in_thread(lambda: ends.receive(close=False))
    for byte in pack(message):
        ends.far.sendall(bytes([byte]))
    assert reading() == message


def test_a_large_message_goes_both_ways(ends):
    def echo():
        message, _ = read_frame(ends.far.fileno())
        ends.far.sendall(pack(message))

    message = {"text": "x" * (5 << 20)}
    answering = in_thread(echo)
    assert ends.worker.request(message, LONG) == message
    answering()


def in_thread(work):
    """Run it in a thread; the function that is given back waits for what it returned."""
    results = []

    def run():
        try:
            results.append((work(), None))
        except BaseException as error:
            results.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()

    def wait():
        thread.join(LONG)
        ((value, error),) = results
        if error is not None:
            raise error
        return value

    return wait


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 10])
def test_a_stream_that_ends_within_a_message_is_lost(ends, n):
    with pytest.raises(WorkerLostError, match="a worker was lost: it ended"):
        ends.receive(pack({"ready": True})[:n])


def test_a_length_over_the_limit_is_lost_before_it_is_read(ends):
    with pytest.raises(WorkerLostError, match="an answer of 268,435,457 bytes"):
        ends.receive(struct.pack(">I", MAX_FRAME + 1), close=False)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"nope", b"{} {}", b"[" * 20_000, b'{"a":' * 20_000],
    ids=lambda body: repr(body[:10]),
)
def test_what_is_no_json_is_lost(ends, body):
    with pytest.raises(WorkerLostError, match="no JSON"):
        ends.receive(framed(body))


@pytest.mark.parametrize("body", [[], "text", 1, None, True, [{}]])
def test_what_is_no_object_is_lost(ends, body):
    with pytest.raises(WorkerLostError, match="no object"):
        ends.receive(framed(json.dumps(body).encode()))


def test_what_is_known_of_the_end_is_in_the_message():
    made = Ends(lambda: "  bwrap: no room\n")
    with pytest.raises(WorkerLostError, match=r"^a worker was lost: it ended \(bwrap: no room\)$"):
        made.receive(b"")
    made.close()


def test_of_long_last_words_the_end_is_in_the_message():
    made = Ends(lambda: "x" * 10_000 + "the end")
    with pytest.raises(WorkerLostError, match="the end") as caught:
        made.receive(b"")
    assert len(str(caught.value)) < 1600
    made.close()


def test_no_answer_before_the_deadline_is_lost(ends):
    with pytest.raises(WorkerLostError, match="it did not answer in time"):
        ends.worker.receive(time.monotonic() - 1)


def test_half_an_answer_before_the_deadline_is_lost(ends):
    ends.far.sendall(pack({"ready": True})[:7])
    with pytest.raises(WorkerLostError, match="it did not answer in time"):
        ends.worker.receive(time.monotonic() - 1)


def test_a_worker_that_reads_nothing_is_lost_at_the_deadline(ends):
    with pytest.raises(WorkerLostError, match="it did not answer in time"):
        ends.worker.send(b"x" * (32 << 20), time.monotonic() - 1)


def test_sending_to_a_worker_that_ended_is_a_loss(ends):
    ends.far.close()
    with pytest.raises(WorkerLostError, match="a worker was lost"):
        ends.worker.request({"op": "job"}, LONG)


def test_killing_wakes_whoever_waits_for_an_answer(ends):
    asked = in_thread(lambda: ends.worker.request({"op": "job"}, 600))
    read_frame(ends.far.fileno())  # it waits now, or is about to
    ends.worker.kill()
    with pytest.raises(WorkerLostError):
        asked()


def test_killing_wakes_whoever_waits_to_write(ends):
    asked = in_thread(lambda: ends.worker.send(b"x" * (32 << 20), time.monotonic() + 600))
    ends.far.recv(1)  # it has begun
    ends.worker.kill()
    with pytest.raises(WorkerLostError):
        asked()


def test_killing_twice_ends_it_once(ends):
    ends.worker.kill()
    ends.worker.kill()
    assert ends.ended == [True]


def test_killing_from_many_threads_ends_it_once(ends):
    together = threading.Barrier(8, timeout=LONG)

    def kill():
        together.wait()
        ends.worker.kill()

    for wait in [in_thread(kill) for _ in range(8)]:
        wait()
    assert ends.ended == [True]


def test_a_request_after_the_end_is_a_loss(ends):
    ends.worker.kill()
    with pytest.raises(WorkerLostError):
        ends.worker.request({"op": "job"}, LONG)


def test_the_far_end_sees_that_a_killed_worker_is_gone(ends):
    ends.worker.kill()
    assert ends.far.recv(1) == b""
