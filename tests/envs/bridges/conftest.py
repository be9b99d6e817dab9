"""An environment of ours behind a server, and a server that does what a test wants."""

import asyncio
import contextlib
import json
import threading

import pytest


class Loop:
    """An event loop in a thread."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def end(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@contextlib.contextmanager
def served(env, name="test", token=None, **options):
    """The address of ``env`` served by our OpenEnv server in a thread."""
    import uvicorn

    from rl_envs.bridges.openenv_server import EnvServerOptions, EnvService
    from rl_sandboxes.serving import listen

    loop = Loop()
    listener = listen("127.0.0.1", 0)

    async def start():
        service = EnvService(env, name, EnvServerOptions(**options), token)
        server = uvicorn.Server(
            uvicorn.Config(
                service.app(), log_level="error", ws="websockets-sansio", ws_max_size=1 << 20
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        return service, server, serving

    service, server, serving = loop.run(start())

    async def stop():
        service.give_up()
        server.should_exit = True
        await serving

    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        loop.run(stop())
        loop.end()


@contextlib.contextmanager
def scripted(answer, schema=None):
    """The address of a server whose WebSocket sends ``await answer(message)`` for each message.

    A list is several messages, None is none.
    """
    from websockets.asyncio.server import serve
    from websockets.datastructures import Headers
    from websockets.http11 import Response

    loop = Loop()

    def http(connection, request):
        if request.path != "/schema":
            return None
        body = json.dumps({"action": schema or {}}).encode()
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body))})
        return Response(200, "OK", headers, body)

    async def talk(socket):
        async for raw in socket:
            told = await answer(json.loads(raw))
            for each in told if isinstance(told, list) else [told]:
                if each is not None:
                    await socket.send(each if isinstance(each, str) else json.dumps(each))

    async def start():
        return await serve(talk, "127.0.0.1", 0, process_request=http)

    server = loop.run(start())

    async def stop():
        server.close()
        await server.wait_closed()

    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.run(stop())
        loop.end()


@pytest.fixture
def serving():
    return served


@pytest.fixture
def script():
    return scripted
