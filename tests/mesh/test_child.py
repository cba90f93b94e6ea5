"""Real children: small Python programs that speak over the inherited socket."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from localai.mesh.child import Child, child_environment, spawn_child
from localai.mesh.errors import SetupError

HEAD = "import socket, sys, os, signal\npipe = socket.socket(fileno=int(sys.argv[1]))\n"


async def start(program: str) -> Child:
    return await spawn_child("test", [sys.executable, "-c", HEAD + program], child_environment(os.environ, {"X": "1"}))


def test_keys_and_tokens_stay_out_of_the_environment() -> None:
    secrets = dict.fromkeys(("LOCALAI_API_KEY", "TOKEN", "AWS_SECRET", "LLAMA_API_KEY", "LLAMA_ARG_HF_TOKEN"), "s")
    parent = {"PATH": "/bin", "LC_ALL": "C", "X": "0", **secrets}
    assert child_environment(parent, {"X": "1"}) == {"PATH": "/bin", "LC_ALL": "C", "X": "1"}


async def test_bytes_go_both_ways_and_closing_our_end_ends_the_child() -> None:
    child = await start("while data := pipe.recv(100):\n    pipe.sendall(data.upper())\n")
    child.write(b"hello")
    assert await child.reader.readexactly(5) == b"HELLO"
    assert child.pid > 0
    child.close_input()
    child.write(b"into the void")
    assert await child.wait() == 0


async def test_the_exit_code_and_the_last_words_are_kept() -> None:
    child = await start("print('\\n'.join(map(str, range(100))), file=sys.stderr)\nsys.exit(3)")
    assert await child.reader.read() == b""
    assert await child.wait() == 3
    assert child.last_words.split() == [str(line) for line in range(80, 100)]


async def test_endless_lines_do_not_fill_the_memory() -> None:
    child = await start("sys.stderr.write('x' * 1_000_000 + '\\nend\\n')")
    await child.reader.read()
    assert await child.wait() == 0
    assert child.last_words.splitlines()[-1] == "end"
    assert len(child.last_words) < 20_000


async def test_kill_is_reported_as_a_signal_and_harmless_afterwards() -> None:
    child = await start("signal.pause()")
    child.kill()
    assert await child.wait() == -signal.SIGKILL
    child.kill()


async def test_a_child_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localai.mesh.child._EXIT_TIMEOUT_S", 0.2)
    child = await start("while True: signal.pause()")
    async with asyncio.timeout(10):
        assert await child.wait() == -signal.SIGKILL


async def test_a_program_that_does_not_exist_is_a_setup_error() -> None:
    with pytest.raises(SetupError, match="could not be started"):
        await spawn_child("test", ["/does/not/exist"], {})


async def test_without_a_free_descriptor_it_is_a_setup_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("socket.socketpair", none_left)
    with pytest.raises(SetupError, match="Too many open files"):
        await spawn_child("test", [sys.executable], {})


async def test_what_a_child_does_not_read_is_counted() -> None:
    child = await start("signal.pause()")
    child.write(b"x" * (8 << 20))
    assert child.unsent_bytes > 1 << 20
    child.kill()
    await child.wait()


async def test_no_other_descriptors_are_inherited() -> None:
    secret, other = os.pipe()
    os.set_inheritable(secret, True)
    child = await start("pipe.sendall(' '.join(os.listdir('/proc/self/fd')).encode())")
    seen = (await child.reader.read()).split()
    os.close(secret)
    os.close(other)
    await child.wait()
    assert str(secret).encode() not in seen
