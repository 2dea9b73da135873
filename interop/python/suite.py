"""Sections 12 and 13 of the Autobahn|Testsuite, over the library that the suite itself is made of.

    suite.py client URL MESSAGES    goes through all cases with an echo server
    suite.py server MESSAGES        has an echo client go through them, and tells it where as the suite does: /getCaseCount is answered with how
                                    many there are, and /runCase?case=1 is the first. The first line is {"url"}

A case sends MESSAGES messages, fewer if it is told by SUITE_BYTES how many bytes are enough, each when the one before came back.
How each case ended is a line of JSON: {"case", "size", "error", "plain", "compressed"}, where the last two are the bytes of the echoes and
those that they had on the wire; {"done": true} comes behind the last.
"""

import asyncio
import collections
import json
import os
import random
import sys
import zlib

from autobahn.asyncio.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from autobahn.websocket import compress_deflate
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateOfferAccept,
    PerMessageDeflateResponseAccept,
)

NORMAL = 1000
PATIENCE = {"openHandshakeTimeout": 20, "closeHandshakeTimeout": 20}  # seconds
BYTES = int(os.environ.get("SUITE_BYTES", "0"))

# (size of messages, size of fragments or 0 for one frame), as the suite has them
SIZES = [(size, 0) for size in (16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072)]
SIZES += [(size, 256) for size in (8192, 16384, 32768, 65536, 131072)]
SIZES += [(131072, size) for size in (1024, 4096, 32768)]


class OldZlib:
    """zlib as it was when the suite was made: it compressed with 9 bits where it was told 8, and referred back by 250 bytes at most."""

    def __getattr__(self, name):
        return getattr(zlib, name)

    def compressobj(self, level, method, wbits, memory):
        return zlib.compressobj(level, method, -9 if wbits == -8 else wbits, memory)


compress_deflate.zlib = OldZlib()
compress_deflate.PerMessageDeflateMixin.WINDOW_SIZE_PERMISSIBLE_VALUES = list(range(8, 16))


def contents():
    """The kinds of content that section 12 has: name, whether it is sent as binary, and bytes."""
    r = random.Random(12)
    words = "Faust Geist Erde Nacht Seele über Höh' Wald Strom ach und die der das nicht ein so wie ich du er Mephistopheles".split()
    prose = " ".join(r.choice(words) + r.choice(["", "", ",", ".\n", "!\n\n"]) for _ in range(50_000))
    picture = bytes((x * x // 700 + y // 3 + r.randrange(6)) & 255 for y in range(512) for x in range(512))
    document = b"".join(b"%d 0 obj\n<< /Length 900 >>\nstream\n" % i + r.randbytes(900) + b"\nendstream\n" for i in range(250))
    records = json.dumps([{"id": i, "guid": "%016x" % r.getrandbits(64), "name": r.choice(words[:5])} for i in range(5000)], indent=1)
    page = "".join(f'<tr class="row{i % 2}"><td>{i}</td><td>{r.choice(words[:5])}</td><td>{r.random()}</td></tr>\n' for i in range(5000))
    return [
        ("prose", True, prose.encode()),
        ("a picture", True, picture),
        ("a document", True, document),
        ("JSON", False, records.encode("ascii")),
        ("HTML", False, page.encode("ascii")),
    ]


# (no context takeover, window bits or 0) that section 13 asks the other side for, one after the other until one is accepted
PARAMETERS = [
    [(False, 0)],
    [(True, 0)],
    [(False, 8)],
    [(False, 15)],
    [(True, 8)],
    [(True, 15)],
    [(True, 8), (True, 0), (False, 0)],
]

Case = collections.namedtuple("Case", "name binary content size fragment parameters")


def cases():
    sections = [(f"12.{i}", content, [(False, 0)]) for i, content in enumerate(contents(), 1)]
    sections += [(f"13.{i}", sections[3][1], parameters) for i, parameters in enumerate(PARAMETERS, 1)]
    for section, (_, binary, content), parameters in sections:
        for i, (size, fragment) in enumerate(SIZES, 1):
            yield Case(f"{section}.{i}", binary, content, size, fragment, parameters)


def emit(**line):
    print(json.dumps(line), flush=True)


class Conversation:
    """One case. It sends, and the other side sends back."""

    case = None
    answer = b""  # of a server that is not asked for a case
    error = "it did not open"
    count = at = 0

    def onOpen(self):
        if self.case is None:
            if self.answer:
                self.sendMessage(self.answer)
            self.sendClose(NORMAL)
            return
        if self._perMessageCompress is None:
            self.error = "no compression"
            self.sendClose(NORMAL)
            return
        self.autoFragmentSize = self.case.fragment
        self.left = self.messages
        if BYTES:
            self.left = min(self.left, max(3, BYTES // self.case.size))
        self.error = "the connection ended"
        self.next()

    def next(self):
        content, size = self.case.content, self.case.size
        end = (self.at + size) % len(content)
        self.sent = content[self.at : end] if end > self.at else content[self.at :] + content[:end]
        self.at = end
        self.left -= 1
        self.sendMessage(self.sent, self.case.binary)

    def onMessage(self, payload, binary):
        if binary != self.case.binary or payload != self.sent:
            self.error = f"{len(payload)} bytes other than the {len(self.sent)} that were sent"
        elif self.left:
            return self.next()
        else:
            self.error = ""
        self.sendClose(NORMAL)

    def onClose(self, clean, code, reason):
        if not self.error and not (clean and code == NORMAL):
            self.error = f"closed with {code} {reason}"
        elif self.error == "the connection ended":
            self.error += f" with {code} {reason}"
        if self.case:
            stats = self.trafficStats
            emit(
                case=self.case.name,
                size=self.case.size,
                error=self.error,
                plain=stats.incomingOctetsAppLevel,
                compressed=stats.incomingOctetsWebSocketLevel,
            )
        self.ended()


def accept(parameters):
    """What a server makes of offers, if it asks for these parameters."""

    def choose(offers):
        for forget, bits in parameters:
            for offer in offers:
                if isinstance(offer, PerMessageDeflateOffer) and (not bits or offer.accept_max_window_bits):
                    return PerMessageDeflateOfferAccept(offer, request_no_context_takeover=forget, request_max_window_bits=bits)

    return choose


async def be_client(url, messages):
    loop = asyncio.get_running_loop()
    for case in cases():
        over = loop.create_future()

        class Protocol(Conversation, WebSocketClientProtocol):
            def ended(self, over=over):
                over.set_result(None)

        Protocol.case, Protocol.messages = case, messages
        factory = WebSocketClientFactory(url)
        factory.protocol = Protocol
        factory.setProtocolOptions(
            **PATIENCE,
            perMessageCompressionOffers=[
                PerMessageDeflateOffer(request_no_context_takeover=forget, request_max_window_bits=bits)
                for forget, bits in case.parameters
            ],
            perMessageCompressionAccept=PerMessageDeflateResponseAccept,
        )
        await loop.create_connection(factory, factory.host, factory.port)
        await over
    emit(done=True)


async def be_server(messages):
    all = list(cases())

    class Protocol(Conversation, WebSocketServerProtocol):
        def onConnect(self, request):
            if request.path == "/getCaseCount":
                self.answer = b"%d" % len(all)
            if request.path != "/runCase":
                return
            self.case, self.messages = all[int(request.params["case"][0]) - 1], messages
            self.perMessageCompressionAccept = accept(self.case.parameters)

        def ended(self):
            pass

    factory = WebSocketServerFactory()
    factory.protocol = Protocol
    factory.setProtocolOptions(**PATIENCE)
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    emit(url="ws://127.0.0.1:%d" % server.sockets[0].getsockname()[1])
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


if sys.argv[1] == "client":
    asyncio.run(be_client(sys.argv[2], int(sys.argv[3])))
else:
    asyncio.run(be_server(int(sys.argv[2])))
