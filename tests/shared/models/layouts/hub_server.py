"""A server of the hub's protocol, of repositories that are folders: as much of it as the hub's client asks."""

import hashlib
import json
from collections.abc import Collection
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "c0ffee" + 34 * "0"


def _oid(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


@contextmanager
def hub(repositories: dict[str, Path], withheld: Collection[str] = ()):
    """Its address, and the files that have been fetched from it so far. withheld: listed, not given."""
    fetched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            for id, folder in repositories.items():
                names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
                if self.path.partition("?")[0] in (f"/api/models/{id}", f"/api/models/{id}/revision/main"):
                    about = {"_id": "1", "id": id, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
                    return self._send(json.dumps(about).encode(), body=body)
                if self.path.partition("?")[0] == f"/api/models/{id}/tree/{COMMIT}":
                    sizes = [(name, (folder / name).stat().st_size) for name in names]
                    tree = [{"type": "file", "path": name, "size": size, "oid": _oid(name)} for name, size in sizes]
                    return self._send(json.dumps(tree).encode(), body=body)
                for name in (name for name in names if name not in withheld):
                    if self.path.partition("?")[0] in (f"/{id}/resolve/{at}/{name}" for at in ("main", COMMIT)):
                        if body:
                            fetched.append(name)
                        return self._send((folder / name).read_bytes(), body=body)
            self._send(b"", body=body, code=404)

        def _send(self, content: bytes, *, body: bool, code: int = 200) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            if code == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
