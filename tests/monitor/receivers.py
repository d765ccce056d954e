"""Real servers on loopback that messages are sent to: a mailbox and a webhook."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler

from syncline.flow_processes import free_ports


class Mailbox(MessageHandler):
    def __init__(self) -> None:
        super().__init__()
        self.mails: list[Message] = []
        self.port = free_ports(1)[0]

    def handle_message(self, message: Message) -> None:
        self.mails.append(message)

    @property
    def address(self) -> str:
        return f"mailto://127.0.0.1:{self.port}?from=syncline@shop.example&to=team@shop.example"


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


class Webhook:
    """``path`` is its secret. While it is not ``up``, its answer is 503."""

    def __init__(self, path: str) -> None:
        self.messages: list[dict[str, Any]] = []
        self.up = True
        self._path = path
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if hook.up and self.path == f"/{path}":
                    hook.messages.append(orjson.loads(body))
                self.send_response(200 if hook.up else 503)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"json://poster:{self._path}-password@127.0.0.1:{self.server.server_port}/{self._path}"


@contextmanager
def webhook(path: str) -> Iterator[Webhook]:
    hook = Webhook(path)
    thread = threading.Thread(target=hook.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hook
    finally:
        hook.server.shutdown()
        hook.server.server_close()
        thread.join()
