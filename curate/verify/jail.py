"""Locks its own process in, then runs one Python program: `python -I jail.py PROGRAM LIMITS`, LIMITS as JSON.

Standard library only, and no import of this package: the process starts in isolated mode and must be small.
Nothing is run unless the network is closed, by a network namespace or by a system-call filter.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import runpy
import struct
import sys

__all__ = ["REFUSED", "main"]

# Exit status when the sandbox cannot be had; the reason is on standard error.
REFUSED = 125

_NEWUSER, _NEWNET, _NEWIPC = 0x10000000, 0x40000000, 0x08000000
_NO_NEW_PRIVS, _SET_SECCOMP, _SET_DUMPABLE, _FILTER = 38, 22, 4, 2
_ALLOW, _DENY, _MISSING = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38  # EPERM, ENOSYS
_THREAD = 0x00010000
_LANDLOCK = (444, 445, 446)
# (audit architecture, numbers of what is denied, of clone, of prlimit64). Denied, in this order: sockets; processes,
# signals, tracing and priorities; mounts, keys and kernel services; shared memory and queues; owners, modes, times and
# attributes of files, which Landlock leaves alone; and calls of one number everywhere, such as io_uring, which opens
# sockets of its own. clone3 hides its flags from a filter, so it is reported as missing.
_ANYWHERE = (424, 425, 426, 427, 428, 429, 430, 431, 432, 433, 434, 438, 440, 442, 448, 452, 463, 466)
_MACHINES = {
    "x86_64": (
        0xC000003E,
        (
            *(41, 42, 43, 49, 50, 288),
            *(57, 58, 59, 322, 62, 129, 200, 234, 297, 101, 310, 311, 312, 141, 142, 144, 203, 251, 314),
            *(155, 161, 165, 166, 248, 249, 250, 272, 298, 308, 321, 323),
            *(29, 64, 68, 240),
            *(90, 91, 92, 93, 94, 132, 133, 188, 189, 190, 197, 198, 199, 235, 259, 260, 261, 268, 280),
        ),
        56,
        302,
    ),
    "aarch64": (
        0xC00000B7,
        (
            *(198, 200, 201, 202, 203, 242),
            *(221, 281, 129, 130, 131, 138, 240, 117, 270, 271, 272, 140, 118, 119, 122, 30, 274),
            *(39, 40, 41, 51, 97, 217, 218, 219, 241, 268, 280, 282),
            *(194, 190, 186, 180),
            *(52, 53, 54, 55, 88, 33, 5, 6, 7, 14, 15, 16),
        ),
        220,
        261,
    ),
}
_CLONE3 = 435


def main() -> None:
    """Lock in, run, and leave with the program's exit status."""
    program, limits = sys.argv[1], json.loads(sys.argv[2])
    libc = ctypes.CDLL(None, use_errno=True)
    _limit(limits)
    closed = libc.unshare(_NEWUSER | _NEWNET | _NEWIPC) == 0
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        _refuse("the kernel cannot forbid new privileges")
    libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0)
    filed = _close_files(libc, os.getcwd())
    filtered = _filter_calls(libc)
    if not (closed or filtered):
        _refuse("neither a network namespace nor a system-call filter can be had here")
    if not filed and not filtered:
        _refuse("neither Landlock nor a system-call filter can be had here")
    sys.argv = [program]
    sys.path.insert(0, "")
    runpy.run_path(program, run_name="__main__")


def _refuse(reason: str) -> None:
    print(reason, file=sys.stderr, flush=True)
    os._exit(REFUSED)


def _limit(limits: dict[str, int]) -> None:
    for kind, value in (
        (resource.RLIMIT_CPU, limits["cpu_seconds"]),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, 128),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (value, value))


def _close_files(libc: ctypes.CDLL, folder: str) -> bool:
    """Landlock: read what Python itself needs, write in `folder` only. False if the kernel has none."""
    create, add, restrict = _LANDLOCK
    abi = libc.syscall(create, None, ctypes.c_size_t(0), 1)
    if abi < 1:
        return False
    bits = {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)
    everything, read = (1 << bits) - 1, 0b1101
    net, scope = 0b11 if abi >= 4 else 0, 0b11 if abi >= 6 else 0
    attributes = struct.pack("QQQ", everything, net, scope)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    rules = libc.syscall(create, attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        return False
    readable = {sys.prefix, sys.base_prefix, sys.exec_prefix, "/usr", "/lib", "/lib64", "/etc/ld.so.cache"}
    places = [(place, read) for place in sorted(readable - {"", "/"})]
    places += [(folder, everything), ("/dev/null", 0b110), ("/dev/urandom", 0b100)]
    for place, allowed in places:
        try:
            handle = os.open(place, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if not os.path.isdir(place):
            allowed &= 0b110 | (1 << 14 if bits > 14 else 0)
        # The kernel's structure is packed: 8 bytes of rights and 4 of the handle.
        libc.syscall(add, rules, 1, struct.pack("=Qi", allowed, handle), 0)
        os.close(handle)
    done: bool = libc.syscall(restrict, rules, 0) == 0
    os.close(rules)
    return done


def _filter_calls(libc: ctypes.CDLL) -> bool:
    """A system-call filter; False if the kernel or the machine has none."""
    if platform.machine() not in _MACHINES or sys.byteorder != "little":
        return False
    architecture, denied, clone, prlimit = _MACHINES[platform.machine()]
    load, equal, at_least, any_bit, leave = 0x20, 0x15, 0x35, 0x45, 0x06
    code = [
        (load, 0, 0, 4),
        (equal, 1, 0, architecture),
        (leave, 0, 0, _DENY),
        (load, 0, 0, 0),
        (at_least, 0, 1, 0x40000000),  # the x32 numbers, another door to the same calls
        (leave, 0, 0, _DENY),
        (equal, 0, 1, _CLONE3),
        (leave, 0, 0, _MISSING),
    ]
    for number in (*denied, *_ANYWHERE):
        code += [(equal, 0, 1, number), (leave, 0, 0, _DENY)]
    code += [
        (equal, 0, 3, clone),  # threads only
        (load, 0, 0, 16),
        (any_bit, 4, 0, _THREAD),
        (leave, 0, 0, _DENY),
        (equal, 0, 2, prlimit),  # limits of this process only
        (load, 0, 0, 16),
        (equal, 0, 1, 0),
        (leave, 0, 0, _ALLOW),
        (leave, 0, 0, _DENY),
    ]
    packed = b"".join(struct.pack("HBBI", *step) for step in code)
    steps = ctypes.create_string_buffer(packed, len(packed))
    header = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(steps))
    done: bool = libc.prctl(_SET_SECCOMP, _FILTER, ctypes.c_char_p(header), 0, 0) == 0
    return done


if __name__ == "__main__":
    main()
