"""A stand-in for the Alyx database and its file server, over the tables and files of a ONE cache, on 127.0.0.1.

It answers what ONE 3.6 asks, with the fields of recorded OpenAlyx responses, and remembers every request. Files lie
under ``/public`` with the id of the dataset in their names. The unmodified ONE client works with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

import pandas as pd

LOGIN = {"username": "tester", "password": "secret"}
FILTERS = {
    "sessions": ("id", "lab", "subject", "date_range", "django", "limit", "offset"),
    "insertions": ("id", "session", "name", "subject", "django", "limit", "offset"),
    "datasets": ("id", "session", "exists", "collection", "name", "django", "limit", "offset"),
    "trajectories": ("probe_insertion", "provenance", "django", "limit", "offset"),
    "data-repository": ("name", "limit", "offset"),
}


def schema() -> dict[str, Any]:
    """The part of the OpenAPI document that ONE reads: endpoints, their actions and filters."""
    paths: dict[str, Any] = {}
    for endpoint, filters in FILTERS.items():
        paths[f"/{endpoint}"] = {"get": {"parameters": [{"in": "query", "name": name} for name in filters]}}
        paths[f"/{endpoint}/{{id}}"] = {"get": {"parameters": [{"in": "path", "name": "id"}]}}
    return {"openapi": "3.0.3", "info": {"title": "", "version": "0"}, "paths": paths, "components": {"schemas": {}}}


def server_tree(cache: Path, target: Path) -> Path:
    """Link the files of a ONE cache below `target`/data, the id of the dataset in each name; returns `target`."""
    for dataset in tables(cache)["datasets"].values():
        link = target / "data" / dataset["stored"]
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(cache / dataset["session_path"] / dataset["rel_path"], link)
    return target


def tables(cache: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """The rows of the tables of a ONE cache by id, with the paths that follow from them."""
    sessions = pd.read_parquet(cache / "sessions.pqt").to_dict("index")
    insertions = pd.read_parquet(cache / "insertions.pqt").reset_index()
    datasets = pd.read_parquet(cache / "datasets.pqt").reset_index()
    rows = {row["id"]: row for row in datasets.to_dict("records")}
    for row in rows.values():
        at = sessions[row["eid"]]
        row["session_path"] = f"{at['lab']}/Subjects/{at['subject']}/{at['date']}/{at['number']:03d}"
        stem, dot, suffix = row["rel_path"].rpartition(".")
        row["stored"] = f"{row['session_path']}/{stem}.{row['id']}{dot}{suffix}"
    return {
        "sessions": sessions,
        "insertions": {row["id"]: row for row in insertions.to_dict("records")},
        "datasets": rows,
    }


@dataclass(frozen=True)
class Asked:
    """One line of the log."""

    method: str
    path: str
    status: int


class AlyxStub(ThreadingHTTPServer):
    """Serves a ONE cache at `url`. `changes` update what is said of a dataset, by its relative path."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, cache: Path, files: Path, *, page: int = 250) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tables, self.files, self.page = tables(cache), files, page
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.token = "f" * 40
        self.log: list[Asked] = []
        self.status: int | None = None  # answer this to everything,
        self.times: int | None = None  # or, if given, to the next so many questions; "try again at once"
        self.changes: dict[str, dict[str, Any]] = {}

    @contextmanager
    def running(self) -> Iterator[AlyxStub]:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()
            thread.join()

    def asked(self, match: str = "") -> list[str]:
        """Paths of the requests so far that match."""
        return [line.path for line in self.log if re.search(match, line.path)]

    def session(self, eid: str) -> dict[str, Any]:
        row = self.tables["sessions"][eid]
        number, start = int(row["number"]), f"{row['date']}T10:46:45"
        known = {name: row[name] for name in ("lab", "subject", "task_protocol")}
        return {**known, "id": eid, "start_time": start, "number": number, "projects": [row["projects"]]}

    def full_session(self, eid: str) -> dict[str, Any]:
        rows = [row for row in self.tables["datasets"].values() if row["eid"] == eid]
        return self.session(eid) | {
            "url": f"{self.url}/sessions/{eid}",
            "data_dataset_session_related": [self.dataset(row) for row in rows],
        }

    def dataset(self, row: dict[str, Any]) -> dict[str, Any]:
        name = row["rel_path"].rpartition("/")[2]
        return {
            "id": row["id"],
            "name": name,
            "dataset_type": ".".join(name.split(".")[:2]),
            "data_url": f"{self.url}/public/{row['stored']}",  # with a # as it is, like Alyx
            "url": f"{self.url}/datasets/{row['id']}",
            "file_size": int(row["file_size"]),
            "hash": row["hash"],
            "version": "1.0",
            "collection": row["rel_path"].rpartition("/")[0].partition("/#")[0],
            "default_revision": str(bool(row["default_revision"])),
            "qc": "NOT_SET",
            **self.changes.get(row["rel_path"], {}),
        }

    def insertion(self, pid: str) -> dict[str, Any]:
        row = self.tables["insertions"][pid]
        return {
            "id": pid,
            "session": row["eid"],
            "model": row["model"],
            "session_info": self.session(row["eid"]),
            "name": row["name"],
            "json": {"qc": "PASS", "extended_qc": {"alignment_resolved": True}},
            "serial": row["serial"],
            "auto_datetime": "2024-09-23T16:18:55.962506",
            "chronic_insertion": None,
            "datasets": [],
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: AlyxStub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, body: bytes, *headers: tuple[str, str], kind: str = "application/json") -> None:
        self.server.log.append(Asked(self.command, unquote(self.path), status))
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def say(self, value: Any, status: int = 200) -> None:
        headers = [("Retry-After", "0")] if status in (429, 503) else []
        self.answer(status, json.dumps(value).encode(), *headers)

    def fails(self) -> bool:
        """Whether this question is one that fails."""
        if self.server.status and self.server.times is not None:
            self.server.times -= 1
            return self.server.times >= 0
        return bool(self.server.status)

    def do_POST(self) -> None:
        given = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        if self.fails():
            return self.say({"detail": "injected"}, self.server.status)
        if self.path == "/auth-token" and given == LOGIN:
            return self.say({"token": self.server.token})
        return self.say({"non_field_errors": ["Unable to log in with provided credentials."]}, 400)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        parts = unquote(address.path).strip("/").split("/")
        if self.fails():
            return self.say({"detail": "injected"}, self.server.status)
        if parts[0] == "public":
            return self.file(self.server.files / "data" / "/".join(parts[1:]))
        if parts == ["api", "schema"]:
            return self.say(schema())
        if self.headers.get("Authorization") != f"Token {self.server.token}":
            return self.say({"detail": "Invalid token."}, 403)
        if parts == ["me"]:
            return self.say({"username": LOGIN["username"]})
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        return self.rows(parts[0], query) if len(parts) == 1 else self.row(*parts[:2])

    def row(self, endpoint: str, key: str) -> None:
        found = {"sessions": self.server.full_session, "insertions": self.server.insertion}.get(endpoint)
        if found is None or key not in self.server.tables[endpoint]:
            return self.say({"detail": "Not found."}, 404)
        return self.say(found(key))

    def rows(self, endpoint: str, query: dict[str, str]) -> None:
        found = {"sessions": self.server.session, "insertions": self.server.insertion}.get(endpoint)
        if found is None:
            return self.say({"detail": "Not found."}, 404)
        rows = [found(key) for key in self.server.tables[endpoint]]
        if wanted := query.get("id") or query.get("django", "").removeprefix("pk,"):
            rows = [row for row in rows if row["id"] in wanted]
        if session := query.get("session"):
            rows = [row for row in rows if row["session"] == session]
        start, count = int(query.get("offset", 0)), int(query.get("limit", self.server.page))
        more = urlencode(query | {"limit": count, "offset": start + count})
        following = f"{self.server.url}/{endpoint}?{more}" if start + count < len(rows) else None
        page = {"count": len(rows), "next": following, "previous": None, "results": rows[start : start + count]}
        return self.say(page)

    def file(self, path: Path) -> None:
        if not path.is_file():
            return self.answer(404, b"not found", kind="text/plain")
        body, status, headers = path.read_bytes(), 200, []
        tag = ("ETag", f'"{hashlib.md5(body).hexdigest()}"')
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, stop = int(match[1]), min(int(match[2] or len(body)) + 1, len(body))
            headers = [("Content-Range", f"bytes {start}-{stop - 1}/{len(body)}")]
            body, status = body[start:stop], 206
        return self.answer(status, body, tag, ("Accept-Ranges", "bytes"), *headers, kind="application/octet-stream")


def remote_client(stub: AlyxStub, cache: Path, **login: str) -> Any:
    """The unmodified ONE client, in remote mode, logged in to the stub."""
    import one.params
    from one.api import OneAlyx

    settings = one.params.get(client=stub.url, silent=True)
    one.params.save(settings.set("HTTP_DATA_SERVER", f"{stub.url}/public"), stub.url)
    return OneAlyx(base_url=stub.url, cache_dir=cache, silent=True, **(login or LOGIN))
