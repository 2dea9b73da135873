"""A peer of the Go tests: the commands and events of ../node/peer.mjs, for libraries of Python.

    peer.py websockets          the client of the library websockets
    peer.py websockets serve    its server; a file with a certificate and its key may follow, for TLS
    peer.py aiohttp             the client of aiohttp
    peer.py aiohttp serve       its server

The code and reason of an end are those that the library shows its user. Messages that are sent back in parts: only by websockets.
"""

import asyncio
import base64
import codecs
import itertools
import json
import os
import ssl
import sys
import threading

CHOSEN_PROTOCOL = "v2.chat"
PEER_LIMIT = 4 << 20
COMPRESSION = json.loads(os.environ.get("PEER_COMPRESSION", "null"))
NO_STATUS, DROPPED = 1005, 1006


def emit(id, kind, data=None, **rest):
    if data is not None:
        rest["data"] = base64.b64encode(data).decode()
    print(json.dumps({"id": id, "kind": kind, **rest}), flush=True)


def decode(data):
    return base64.b64decode(data or "")


class Websockets:
    """Connections of the library websockets."""

    async def dial(self, url, offer):
        import websockets

        more = {}
        if COMPRESSION:
            from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

            more = self.compression(ClientPerMessageDeflateFactory, client_max_window_bits=True)
        return await websockets.connect(url, subprotocols=offer or None, max_size=PEER_LIMIT, **more)

    def compression(self, factory, **at_15_bits):
        bits, takeover = COMPRESSION["bits"], COMPRESSION["takeover"]
        windows = {"server_max_window_bits": bits, "client_max_window_bits": bits} if bits < 15 else at_15_bits
        no = not takeover
        deflate = factory(server_no_context_takeover=no, client_no_context_takeover=no, **windows)
        return {"compression": None, "extensions": [deflate]}

    async def serve(self, handle, tls):
        import websockets

        more = {}
        if COMPRESSION:
            from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

            more = self.compression(ServerPerMessageDeflateFactory)
        server = await websockets.serve(
            handle, "127.0.0.1", 0, ssl=tls, subprotocols=[CHOSEN_PROTOCOL], max_size=PEER_LIMIT, **more
        )
        return server.sockets[0].getsockname()[1]

    def protocol(self, socket):
        return socket.subprotocol

    async def receive(self, id, socket):
        """Emits what is received, and returns the code and reason in the end."""
        import websockets

        try:
            long = itertools.count()
            async for message in socket:
                if hasattr(socket, "part"):
                    if socket.part and len(message) > socket.part and next(long) % 2 == 0:
                        message = [message[i : i + socket.part] for i in range(0, len(message), socket.part)]
                    await socket.send(message)
                elif isinstance(message, str):
                    emit(id, "text", message.encode())
                else:
                    emit(id, "binary", message)
        except websockets.ConnectionClosedError:
            pass
        return socket.close_code, socket.close_reason

    async def text(self, socket, data):
        await socket.send(data.decode())

    async def binary(self, socket, data):
        await socket.send(data)

    async def parts(self, socket, kind, parts, pings):
        decode = codecs.getincrementaldecoder("utf-8")().decode  # a border may be inside of a character

        async def fragments():
            for part, ping in itertools.zip_longest(parts, pings):
                yield decode(part) if kind == "text" else part
                if ping is not None:
                    await socket.ping(ping)

        await socket.send(fragments())

    async def ping(self, socket, data):
        await socket.ping(data)

    async def close(self, socket, code, reason):
        await socket.close(code, reason)

    async def drop(self, socket):
        socket.transport.abort()


class Aiohttp:
    """Connections of aiohttp. It is told to show Pings, and so answers them here."""

    session = None  # of all connections of the client

    async def dial(self, url, offer):
        import aiohttp

        self.session = self.session or aiohttp.ClientSession()
        compress = COMPRESSION["bits"] if COMPRESSION else 0
        return await self.session.ws_connect(
            url, protocols=offer, max_msg_size=PEER_LIMIT, autoping=False, compress=compress
        )

    async def serve(self, handle, tls):
        from aiohttp import web

        async def upgrade(request):
            socket = web.WebSocketResponse(protocols=[CHOSEN_PROTOCOL], max_msg_size=PEER_LIMIT, autoping=False)
            await socket.prepare(request)
            await handle(socket)
            return socket

        app = web.Application()
        app.router.add_get("/", upgrade)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        return site._server.sockets[0].getsockname()[1]

    def protocol(self, socket):
        return getattr(socket, "protocol", None) or getattr(socket, "ws_protocol", None)

    async def receive(self, id, socket):
        socket.reading = asyncio.ensure_future(self.read(id, socket))
        socket.ended = asyncio.get_running_loop().create_future()
        await asyncio.wait({socket.reading})
        return await socket.ended if socket.reading.cancelled() else socket.reading.result()

    async def read(self, id, socket):
        from aiohttp import WSMsgType

        while True:
            message = await socket.receive()
            if hasattr(socket, "part") and message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif hasattr(socket, "part") and message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
            elif message.type is WSMsgType.TEXT:
                emit(id, "text", message.data.encode())
            elif message.type is WSMsgType.BINARY:
                emit(id, "binary", message.data)
            elif message.type is WSMsgType.PING:
                emit(id, "ping", message.data)
                await socket.pong(message.data)
            elif message.type is WSMsgType.PONG:
                emit(id, "pong", message.data)
            elif message.type is WSMsgType.CLOSE:
                return message.data, message.extra
            else:
                return DROPPED, ""

    async def text(self, socket, data):
        await socket.send_str(data.decode())

    async def binary(self, socket, data):
        await socket.send_bytes(data)

    async def ping(self, socket, data):
        await socket.ping(data)

    async def close(self, socket, code, reason):
        socket.reading.cancel()  # it awaits the answer only if nobody else receives
        await asyncio.wait({socket.reading})
        await socket.close(code=code, message=reason.encode())
        socket.ended.set_result((socket.close_code, ""))

    async def drop(self, socket):
        await socket.close()


class Peer:
    def __init__(self, library):
        self.library = library
        self.commands = {}  # queues, by id
        self.tasks = set()  # a loop keeps no task alive by itself
        self.ids = itertools.count(1)

    def run(self, coroutine):
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def command(self, line):
        command = json.loads(line)
        queue = self.commands.setdefault(command["id"], asyncio.Queue())
        if command["do"] == "dial":
            self.run(self.dial(command))
        else:
            queue.put_nowait(command)

    async def dial(self, command):
        id = command["id"]
        try:
            socket = await self.library.dial(command["url"], command.get("offer") or [])
        except Exception as error:
            emit(id, "close", code=DROPPED, reason=repr(error))
            return
        await self.converse(id, socket)

    async def accept(self, socket, *_):
        await self.converse(next(self.ids), socket)

    async def converse(self, id, socket):
        emit(id, "open", protocol=self.library.protocol(socket) or "")
        self.commands.setdefault(id, asyncio.Queue())
        self.run(self.obey(id, socket))
        code, reason = await self.library.receive(id, socket)
        emit(id, "close", code=code or NO_STATUS, reason=reason or "")

    async def obey(self, id, socket):
        """Does what the connection is told, one after the other."""
        while True:
            command = await self.commands[id].get()
            do, data = command["do"], decode(command.get("data"))
            try:
                if do == "parts":
                    parts, pings = ([decode(x) for x in command.get(key) or []] for key in ("parts", "pings"))
                    await self.library.parts(socket, command["kind"], parts, pings)
                elif do == "close":
                    await self.library.close(socket, command["code"], command.get("reason", ""))
                elif do == "echo":
                    socket.part = command.get("part", 0)
                    emit(id, "echoing")
                elif do == "drop":
                    await self.library.drop(socket)
                else:
                    await getattr(self.library, do)(socket, data)
            except Exception:
                if do not in ("text", "binary", "drop"):  # the other side may end the connection meanwhile
                    raise


async def main():
    peer = Peer({"websockets": Websockets, "aiohttp": Aiohttp}[sys.argv[1]]())
    if sys.argv[2:3] == ["serve"]:
        tls, scheme = None, "ws"
        if sys.argv[3:]:
            tls, scheme = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "wss"
            tls.load_cert_chain(sys.argv[3])
        port = await peer.library.serve(peer.accept, tls)
        emit(0, "listening", url=f"{scheme}://127.0.0.1:{port}")
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def read():
        for line in sys.stdin:
            loop.call_soon_threadsafe(peer.command, line)
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=read, daemon=True).start()
    await ended.wait()
    os._exit(0)  # without the closing handshakes of what is still open


asyncio.run(main())
