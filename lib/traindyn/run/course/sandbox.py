"""What the worker may not do: limits, and on Linux a wall of Landlock (files) and seccomp (processes, network).

Neither needs a privilege, and both bind root. The worker loads this file by its path, so that it needs nothing but the
standard library. What a system does not have is left out and named by `report`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable
from typing import Any

FILE_SIZE = 2**25  # longest file, in bytes
OPEN_FILES = 128
PROCESSES = 256  # threads and processes of the account; does not bind root
# system calls by number on x86-64 and ARM64: other processes, networks, namespaces, memory outside the limits
FORBIDDEN = {
    "x86_64": (41, 57, 58, 59, 101, 165, 166, 155, 272, 308, 310, 311, 321, 298, 319, 322, 323, 424, 425, 434, 438,
               29, 68, 64, 240, 200, 129, 297, 248, 249, 250, 428, 429, 430, 442, 161, 303, 304, 141, 144, 203, 251),
    "aarch64": (198, 221, 117, 40, 39, 41, 97, 268, 270, 271, 280, 241, 279, 281, 282, 424, 425, 434, 438,
                194, 186, 190, 180, 130, 138, 240, 217, 218, 219, 428, 429, 430, 442, 51, 264, 265, 140, 119, 122, 30),
}  # fmt: skip
CLONE, CLONE3, KILL, TGKILL, PRLIMIT = range(5)
SPECIAL = {"x86_64": (56, 435, 62, 234, 302), "aarch64": (220, 435, 129, 131, 261)}
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CLONE_THREAD = 0x10000
# Landlock: rights over files that are known since its first, second, third and fifth version
READ, WRITE_ALL = (1 << 0) | (1 << 2) | (1 << 3), (1 << 13) - 1
SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/zero",
          "/dev/urandom", "/dev/random")  # fmt: skip


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def landlock_version() -> int:
    """Return the version of Landlock that the system has; 0 if it has none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, _libc().syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1)))


def has_seccomp() -> bool:
    """Return whether system calls can be filtered here."""
    if not sys.platform.startswith("linux") or platform.machine() not in FORBIDDEN:
        return False
    libc = _libc()
    # with no program at all the call fails with EFAULT where filters exist, with EINVAL where they do not
    return libc.prctl(22, 2, None, 0, 0) == -1 and ctypes.get_errno() == errno.EFAULT


def report() -> dict[str, bool]:
    """Return what holds here: files (Landlock), processes and network (seccomp)."""
    filtered = has_seccomp()
    return {"files": landlock_version() > 0, "processes": filtered, "network": filtered}


def limit(seconds: int, memory: int) -> None:
    """Set the limits of this process, which cannot be raised again.

    Args:
        seconds: of processor time; at its end the system kills the process.
        memory: bytes that it may take beyond what it has.
    """
    with open("/proc/self/statm") as handle:
        taken = int(handle.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    for name, value in (
        ("RLIMIT_AS", taken + memory),
        ("RLIMIT_CPU", seconds),
        ("RLIMIT_FSIZE", FILE_SIZE),
        ("RLIMIT_NOFILE", OPEN_FILES),
        ("RLIMIT_NPROC", PROCESSES),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_MEMLOCK", 0),
        ("RLIMIT_MSGQUEUE", 0),
    ):
        if hasattr(resource, name):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(getattr(resource, name), (value, value))


def close(folder: str, readable: Iterable[str]) -> None:
    """Close the wall: from here on only `folder` can be written and only it, `readable` and the system's own be read.

    No process can be started, none but this one signalled, no socket made, as far as the system can hold it.

    Args:
        folder: the worker's own.
        readable: folders of the Python installation.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = _libc()
    if libc.prctl(38, 1, 0, 0, 0):  # no new privileges, which both walls ask for
        return
    _drop_capabilities(libc)
    if version := landlock_version():
        _landlock(libc, version, folder, readable)
    if has_seccomp():
        _seccomp(libc, os.getpid())


def _drop_capabilities(libc: Any) -> None:
    """Give up all capabilities: without them root cannot raise limits either."""
    header, data = struct.pack("II", 0x20080522, 0), bytes(24)
    libc.syscall({"x86_64": 126, "aarch64": 91}.get(platform.machine(), -1), header, data)


def _landlock(libc: Any, version: int, folder: str, readable: Iterable[str]) -> None:
    handled = WRITE_ALL | (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0)
    handled |= 1 << 15 if version >= 5 else 0
    network = 3 if version >= 4 else 0  # binding and connecting TCP
    scoped = 3 if version >= 6 else 0  # abstract sockets and signals of others
    attributes = struct.pack("QQQ", handled, network, scoped)
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = libc.syscall(444, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    if rules < 0:
        raise OSError(ctypes.get_errno(), "Landlock")
    for place, rights in [*((path, READ) for path in (*SYSTEM, *readable)), (folder, handled)]:
        try:
            handle = os.open(place, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if not os.path.isdir(place):
            rights &= (1 << 0) | (1 << 1) | (1 << 2)
            if place == "/dev/null":
                rights |= 1 << 1
        rule = struct.pack("=Qi", rights, handle)
        failed = libc.syscall(445, rules, ctypes.c_int(1), rule, ctypes.c_uint32(0))
        os.close(handle)
        if failed:
            raise OSError(ctypes.get_errno(), f"Landlock: {place}")
    if libc.syscall(446, rules, ctypes.c_uint32(0)):
        raise OSError(ctypes.get_errno(), "Landlock")
    os.close(rules)


def _seccomp(libc: Any, pid: int) -> None:
    """Install a filter: a program of the classic packet filter over the number and arguments of a system call."""
    machine = platform.machine()
    special = SPECIAL[machine]
    allow, deny, absent, kill = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS, 0x80000000
    program: list[tuple[int, int, int, int]] = []

    def load(offset: int) -> None:
        program.append((0x20, 0, 0, offset))

    def equal(value: int, then: int, otherwise: int) -> None:
        program.append((0x15, then, otherwise, value))

    def give(value: int) -> None:
        program.append((0x06, 0, 0, value))

    load(4)
    equal(AUDIT[machine], 1, 0)
    give(kill)
    load(0)
    program.append((0x35, 0, 1, 0x40000000))  # the x32 numbers of the same calls
    give(deny)
    for number in FORBIDDEN[machine]:
        equal(number, 0, 1)
        give(deny)
    equal(special[CLONE3], 0, 1)
    give(absent)  # the C library falls back to clone, whose flags can be read
    equal(special[CLONE], 0, 4)
    load(16)
    program.append((0x45, 0, 1, CLONE_THREAD))
    give(allow)
    give(deny)
    for call, value in ((KILL, pid), (TGKILL, pid), (PRLIMIT, 0)):  # oneself only
        equal(special[call], 0, 4)
        load(16)
        equal(value, 0, 1)
        give(allow)
        give(deny)
    give(allow)
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    kept = ctypes.create_string_buffer(code, len(code))
    filter_ = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(kept))
    if libc.prctl(22, 2, ctypes.c_char_p(filter_), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")
