"""What a program asks of the disk below a folder: recorded, and made to fail on demand."""

import builtins
import ctypes
import io
import os
from pathlib import Path

_EXCHANGE = 2


class WatchedDisk:
    """Records the operations below `root`, and fails those that `fails` says.

    Parameters
    ----------
    monkeypatch : pytest.MonkeyPatch
    root : Path
    fails : callable, optional
        ``fails(kind, number)`` gives the errno that the operation ends with, or 0; the first has the number 0.

    Attributes
    ----------
    calls : list of (str, str)
        The kind of each operation, reads as well, and its path.
    events : list of tuple
        What was changed: ("write", path, offset, bytes), ("sync", path), ("rename", path, path) ...
    """

    def __init__(self, monkeypatch, root, fails=lambda kind, number: 0):
        self.root, self.fails = str(root), fails
        self.calls, self.events = [], []
        self._open = io.open
        self._libc = ctypes.CDLL
        for owner in (io, builtins):
            monkeypatch.setattr(owner, "open", self.open)
        for name, kind in [
            ("mkdir", "mkdir"), ("rename", "rename"), ("replace", "rename"), ("unlink", "unlink"),
            ("remove", "unlink"), ("rmdir", "rmdir"), ("truncate", "truncate"), ("utime", "utime"), ("open", "open"),
        ]:  # fmt: skip
            monkeypatch.setattr(os, name, self._wrapped(kind, getattr(os, name)))
        monkeypatch.setattr(os, "fsync", self._wrapped("sync", os.fsync))
        monkeypatch.setattr(ctypes, "CDLL", self._library)

    def begin(self, kind, *paths):
        """Count an operation, and fail if it is to."""
        self.calls.append((kind, paths[0]))
        if code := self.fails(kind, len(self.calls) - 1):
            raise OSError(code, os.strerror(code), *paths)

    def watches(self, path):
        return path == self.root or path.startswith(self.root + "/")

    def open(self, file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, *args, **options):
        if isinstance(file, int) or not self.watches(path := _absolute(file)):
            return self._open(file, mode, buffering, encoding, errors, newline, *args, **options)
        self.begin("open", path)
        new = not Path(path).exists()
        raw = WatchedFile(self, path, mode.replace("t", "").replace("b", ""))
        if new or "w" in mode:
            self.events.append(("create", path))
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom if "+" in mode else io.BufferedReader if raw.readable() else io.BufferedWriter
        return buffered(raw) if "b" in mode else io.TextIOWrapper(buffered(raw), encoding, errors, newline)

    def _wrapped(self, kind, original):
        two = kind == "rename"

        def call(path, *args, **options):
            paths = [_absolute(path, options.get("dir_fd")), *(_absolute(other) for other in args[:two])]
            if not self.watches(paths[-1]):
                return original(path, *args, **options)
            self.begin(kind, *paths)
            new = kind == "open" and not Path(paths[0]).exists()
            result = original(path, *args, **options)
            if kind == "open":
                self.events += [("create", paths[0])] * new
            elif kind != "utime":
                self.events.append((kind, *paths, *args[: kind == "truncate"]))
            return result

        return call

    def _library(self, *args, **options):
        return _Library(self, self._libc(*args, **options))


class _Library:
    """The C library, of which only the exchange of two paths is watched."""

    def __init__(self, disk, library):
        self._disk, self._library = disk, library

    def __getattr__(self, name):
        original = getattr(self._library, name)
        if name != "renameat2":
            return original

        def exchange(folder, a, other_folder, b, flags):
            paths = os.fsdecode(a), os.fsdecode(b)
            try:
                self._disk.begin("exchange", *paths)
            except OSError as error:
                ctypes.set_errno(error.errno)
                return -1
            result = original(folder, a, other_folder, b, flags)
            if result == 0 and flags == _EXCHANGE:
                self._disk.events.append(("exchange", *paths))
            return result

        return exchange


class WatchedFile(io.FileIO):
    def __init__(self, disk, path, mode):
        self.disk, self.path = disk, path
        super().__init__(path, mode)

    def write(self, data):
        data = bytes(data)
        self.disk.begin("write", self.path)
        n = super().write(data)
        self.disk.events.append(("write", self.path, self.tell() - n, data[:n]))
        return n

    def truncate(self, size=None):
        self.disk.begin("truncate", self.path)
        size = super().truncate(size)
        self.disk.events.append(("truncate", self.path, size))
        return size

    def readinto(self, buffer):
        self.disk.begin("read", self.path)
        return super().readinto(buffer)

    def readall(self):
        self.disk.begin("read", self.path)
        return super().readall()

    def read(self, size=-1):
        self.disk.begin("read", self.path)
        return super().read(size)


def _absolute(path, folder=None):
    """Of a path, a path in an open folder, or an open file."""
    if isinstance(path, int):
        return str(Path(f"/proc/self/fd/{path}").readlink())
    if folder is not None:
        return f"{_absolute(folder)}/{os.fspath(path)}"
    return str(Path(os.fsdecode(path)).absolute())


class Folder:
    def __init__(self):
        self.names, self.synced = {}, {}

    def sync(self):
        self.synced = dict(self.names)

    def files(self, lucky, prefix=""):
        found = {}
        for name, node in (self.names if lucky else self.synced).items():
            found |= node.files(lucky, f"{prefix}/{name}")
        return found | {prefix + "/": None}


class File:
    def __init__(self, data=b""):
        self.data, self.synced = data, b""

    def sync(self):
        self.synced = self.data

    def files(self, lucky, prefix):
        return {prefix: self.synced}


class Replay:
    """The events of a `WatchedDisk` on a disk that keeps only what it was asked to keep.

    Parameters
    ----------
    root : Path
        It may have had files before.
    before : dict of str to bytes
        These, all on the disk.
    """

    def __init__(self, root, before=None):
        self.root, self.top = str(root), Folder()
        for name, data in (before or {}).items():
            folder = self.top
            *parents, last = name.strip("/").split("/")
            for parent in parents:
                folder = folder.names.setdefault(parent, Folder())
            folder.names[last] = File(data)
        self._sync_all(self.top)

    def _sync_all(self, node):
        node.sync()
        for child in node.names.values() if isinstance(node, Folder) else ():
            self._sync_all(child)

    def after_a_cut(self, lucky):
        """The files, and the folders, which end in a slash and have None, if the power fails now.

        What files hold is what was synced. Names are those that their folder was synced with; or, if `lucky`, all:
        so do file systems with a journal of their own, which is how files come to be there and empty.
        """
        return self.top.files(lucky)

    def apply(self, event):
        kind, path, *rest = event
        folder, name = self._find(path)
        if kind == "sync":
            (folder.names[name] if name else folder).sync()
        elif kind == "mkdir":
            folder.names[name] = Folder()
        elif kind == "create":
            folder.names.setdefault(name, File()).data = b""
        elif kind == "write":
            file, (offset, data) = folder.names[name], rest
            file.data = file.data[:offset].ljust(offset, b"\0") + data + file.data[offset + len(data) :]
        elif kind == "truncate":
            folder.names[name].data = folder.names[name].data[: rest[0]].ljust(rest[0], b"\0")
        elif kind in ("unlink", "rmdir"):
            del folder.names[name]
        elif kind == "rename":
            target, new = self._find(rest[0])
            target.names[new] = folder.names.pop(name)
        elif kind == "exchange":
            other, new = self._find(rest[0])
            folder.names[name], other.names[new] = other.names[new], folder.names[name]

    def _find(self, path):
        *parents, name = path.removeprefix(self.root).strip("/").split("/")
        folder = self.top
        for parent in parents:
            folder = folder.names[parent]
        return folder, name
