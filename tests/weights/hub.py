"""A small hub on localhost: the few endpoints that are asked when a model is listed and fetched, and ways to fail."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40


@dataclass
class Hub:
    """Repositories by name: file name to bytes. `small` files have git's hash, the others sha256, as on the real hub."""

    repositories: dict[str, dict[str, bytes]]
    small: int = 1000
    gated: set[str] = field(default_factory=set)
    licence: str = "apache-2.0"
    served: dict[str, bytes] = field(default_factory=dict)
    """bytes that are sent in place of a file's own"""
    break_after: list[int] = field(default_factory=list)
    """for each of the next answers: after how many bytes the connection is cut"""
    ranges: bool = True
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, path, Range) of every request"""

    def __enter__(self) -> Hub:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_HEAD(self) -> None:
                hub.answer(self, False)

            def do_GET(self) -> None:
                hub.answer(self, True)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        path, ranged = request.path.split("?")[0], request.headers.get("Range")
        self.asked.append((request.command, path, ranged))
        for name, files in self.repositories.items():
            if name in self.gated and (path.startswith((f"/api/models/{name}", f"/{name}/"))):
                return self.send(request, 403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})
            if path in (f"/api/models/{name}", f"/api/models/{name}/revision/main"):
                siblings = [self.described(file, data) for file, data in files.items()]
                record = {"id": name, "sha": COMMIT, "siblings": siblings, "cardData": {"license": self.licence}}
                return self.send(request, 200, json.dumps(record).encode(), {"Content-Type": "application/json"})
            for file, data in files.items():
                if path in (f"/{name}/resolve/{COMMIT}/{file}", f"/{name}/{file}"):
                    return self.file(request, self.served.get(file, data), ranged, body)
        missing = {"X-Error-Code": "RepoNotFound"} if path.startswith("/api/") else {}
        return self.send(request, 404, b"", missing)

    def described(self, file: str, data: bytes) -> dict[str, object]:
        record = {
            "rfilename": file,
            "size": len(data),
            "blobId": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),
        }
        if len(data) > self.small:
            record["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return record

    def file(self, request: BaseHTTPRequestHandler, data: bytes, ranged: str | None, body: bool) -> None:
        start = int(ranged.removeprefix("bytes=").rstrip("-")) if ranged and self.ranges else 0
        if start >= len(data) > 0:
            return self.send(request, 416, b"", {})
        cut = self.break_after.pop(0) if body and self.break_after else None
        self.send(request, 206 if start else 200, data[start:] if body else b"", {}, len(data) - start, cut)
        return None

    @staticmethod
    def send(request, code, data, headers, length=None, cut=None) -> None:  # type: ignore[no-untyped-def]
        request.send_response(code)
        for key, value in {**headers, "Content-Length": str(len(data) if length is None else length)}.items():
            request.send_header(key, value)
        request.end_headers()
        request.wfile.write(data if cut is None else data[:cut])
        if cut is not None:
            request.wfile.flush()
            request.close_connection = True
            request.connection.shutdown(2)
