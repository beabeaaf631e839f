"""Lock this process in, then run one Python program: `python -I sandbox_child.py PROGRAM SETTINGS` (JSON)."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import runpy
import signal
import struct
import sys
from typing import Any

# Exit status if the sandbox is not available; the reason is on standard error. OPEN_FILES: a reason that the setting
# `weak` overrides.
REFUSED, OPEN_FILES = 125, 124
# users: a user namespace; scopes: Landlock also blocks signals and abstract sockets to other processes.
LAYERS = ("users", "namespaces", "root", "capabilities", "landlock", "scopes", "filter")

_NEWUSER, _NEWNET, _NEWIPC, _NEWNS = 0x10000000, 0x40000000, 0x08000000, 0x00020000
_NO_NEW_PRIVS, _SET_SECCOMP, _SET_DUMPABLE, _FILTER, _PARENT_DEATH = 38, 22, 4, 2, 1
_DROP_BOUNDING, _AMBIENT, _AMBIENT_CLEAR, _SECUREBITS = 24, 47, 4, 28
# Root gets no privileges, changing the user grants none, and none can be kept or raised; all of it locked.
_ROOT_IS_NOBODY = 0b11101111
_NOSUID, _NODEV, _BIND, _REC, _PRIVATE, _DETACH = 2, 4, 4096, 16384, 1 << 18, 2
_MOUNT_SETATTR, _RECURSIVE, _READ_ONLY = 442, 0x8000, 1
_ALLOW, _DENY, _MISSING = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38  # EPERM, ENOSYS
_THREAD = 0x00010000
_LANDLOCK = (444, 445, 446)
_PLACE = "/sandbox"  # the program's folder in the new root

# System calls denied by number. In this order: sockets and messages, whose addresses a filter cannot see;
# processes, signals, tracing and priorities; mounts, keys and kernel services; shared memory, queues and files in
# memory; owners, modes, times and attributes of files, which Landlock leaves alone; users, limits of the machine,
# clocks, modules and watches.
_MACHINES: dict[str, dict[str, Any]] = {
    "x86_64": {
        "architecture": 0xC000003E,
        "denied": (
            *(41, 42, 43, 46, 49, 50, 288, 307),
            *(57, 58, 59, 322, 62, 129, 200, 234, 297, 101, 310, 311, 312, 141, 142, 144, 203, 251, 314),
            *(155, 161, 165, 166, 248, 249, 250, 272, 298, 308, 321, 323),
            *(29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 220, 240, 241, 319),
            *(90, 91, 92, 93, 94, 132, 133, 188, 189, 190, 197, 198, 199, 235, 259, 260, 261, 268, 280),
            *(103, 105, 106, 113, 114, 116, 117, 119, 122, 123, 139, 153, 154, 159, 163, 164, 167, 168, 169, 170, 171),
            *(172, 173, 175, 176, 179, 180, 212, 216, 227, 237, 238, 246, 253, 254, 256, 279, 294, 300, 301, 303, 304),
            *(305, 313, 320),
        ),
        "clone": 56,
        "prlimit": 302,
        "fcntl": 72,
        "ioctl": 16,
        "prctl": 157,
        "sendto": 44,
        "socketpair": 53,
        "pivot_root": 155,
    },
    "aarch64": {
        "architecture": 0xC00000B7,
        "denied": (
            *(198, 200, 201, 202, 203, 211, 242, 269),
            *(221, 281, 129, 130, 131, 138, 240, 117, 270, 271, 272, 140, 118, 119, 122, 30, 274),
            *(39, 40, 41, 51, 97, 217, 218, 219, 241, 268, 280, 282),
            *(194, 196, 195, 190, 193, 191, 186, 189, 188, 187, 192, 180, 181, 279),
            *(52, 53, 54, 55, 88, 33, 5, 6, 7, 14, 15, 16),
            *(116, 143, 144, 145, 146, 147, 149, 151, 152, 159, 58, 171, 89, 170, 224, 225, 142, 161, 162, 105, 106),
            *(60, 42, 18, 234, 112, 235, 237, 104, 26, 27, 238, 239, 262, 263, 264, 265, 266, 273, 294),
        ),
        "clone": 220,
        "prlimit": 261,
        "fcntl": 25,
        "ioctl": 29,
        "prctl": 167,
        "sendto": 206,
        "socketpair": 199,
        "pivot_root": 41,
    },
}
# The same: calls of one number everywhere, such as io_uring, which opens sockets of its own.
_ANYWHERE = (
    *(424, 425, 426, 427, 428, 429, 430, 431, 432, 433, 434, 438, 440, 442, 443, 447, 448, 452, 457, 458, 459, 460),
    *(463, 466, 467, 468, 469),
)
_NEWER = 470  # system calls from here on are reported as missing, as is clone3, which hides its flags from a filter
_CLONE3 = 435
# Commands that send signals to other processes: F_SETOWN, F_SETSIG, F_SETOWN_EX; FIOSETOWN, SIOCSPGRP. And commands
# that type on a terminal, TIOCSTI and TIOCLINUX, or set attributes of files.
_FCNTL = (8, 10, 15)
_IOCTL = (0x8901, 0x8902, 0x5412, 0x541C, 0x40086602, 0x401C5820)


def main() -> None:
    """Set up the sandbox, run the program, and exit with its status.

    Standard library only, and no import of this package: the process starts in isolated mode and must be small. The
    layers, each of which works without the others: namespaces (no network, no other IPC), a root of its own (a file
    system in which the Python installation is read-only and nothing else is), no capabilities, Landlock, a system-call
    filter. Nothing is run unless the network is closed and (unless a setting allows otherwise) the user's files are.

    SETTINGS: the fields of ProgramLimits; weak: whether files may be reachable; off: layers to leave out, for tests;
    report: descriptor to which the active layers are written before the program starts.
    """
    program, settings = sys.argv[1], json.loads(sys.argv[2])
    with open(program, "rb") as file:
        code = file.read()
    libc = ctypes.CDLL(None, use_errno=True)
    _limit(settings)
    real = _lock_in(libc, os.getcwd(), settings, frozenset(settings["off"]))
    if not real & {"namespaces", "filter"}:
        _refuse("neither a network namespace nor a system-call filter is available here")
    if not real & {"root", "landlock"}:
        if "filter" not in real:
            _refuse("neither Landlock nor a system-call filter is available here")
        if not settings["weak"]:
            _refuse(
                "this kernel lets a process have neither Landlock nor namespaces with a root of its own", OPEN_FILES
            )
    os.write(settings["report"], " ".join(sorted(real, key=LAYERS.index)).encode())
    os.close(settings["report"])
    program = os.path.basename(program)
    if "root" in real:
        with open(program, "wb") as file:
            file.write(code)
    _set_limit(resource.RLIMIT_FSIZE, settings["file_bytes"])  # of files written; the program may be longer
    sys.argv = [program]
    sys.path.insert(0, "")
    runpy.run_path(program, run_name="__main__")


def _refuse(reason: str, status: int = REFUSED) -> None:
    print(reason, file=sys.stderr, flush=True)
    os._exit(status)


def _lock_in(libc: ctypes.CDLL, folder: str, settings: dict[str, Any], off: frozenset[str]) -> set[str]:
    """Set up the layers one after the other; returns the names of the active ones."""
    real = _namespaces(libc, off)
    if "namespaces" in real and "root" not in off and _own_root(libc, folder, settings):
        real.add("root")
        folder = _PLACE
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        _refuse("the kernel cannot forbid new privileges")
    if "capabilities" not in off and _drop_capabilities(libc):
        real.add("capabilities")
    # After the steps above, which reset both: nobody can read its memory, and it ends with the process that started it.
    libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
    if "landlock" not in off:
        real |= _close_files(libc, folder, scoped="scopes" not in off)
    if "filter" not in off and _filter_calls(libc):
        real.add("filter")
    return real


def _limit(settings: dict[str, int]) -> None:
    for kind, value in (
        (resource.RLIMIT_CPU, settings["cpu_seconds"]),
        (resource.RLIMIT_AS, settings["memory_bytes"]),
        (resource.RLIMIT_NOFILE, 128),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        _set_limit(kind, value)


def _set_limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)  # not more than the user's own limit
    resource.setrlimit(kind, (value, value))


# -- namespaces ---------------------------------------------------------------------------------------------------


def _namespaces(libc: ctypes.CDLL, off: frozenset[str]) -> set[str]:
    """Network and IPC namespaces, in a user namespace or, as root, without one."""
    if "namespaces" in off:
        return set()
    user, group = os.getuid(), os.getgid()
    if "users" not in off and libc.unshare(_NEWUSER | _NEWNET | _NEWIPC) == 0:
        _map_users(user, group)
        return {"users", "namespaces"}
    return {"namespaces"} if libc.unshare(_NEWNET | _NEWIPC) == 0 else set()


def _map_users(user: int, group: int) -> None:
    """Map only the user itself into the namespace. If this fails, no files can be created in a new root."""
    for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        try:
            with open(f"/proc/self/{name}", "w") as file:
                file.write(line)
        except OSError:
            pass


def _readable() -> list[str]:
    """Paths that Python itself needs."""
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, "/usr", "/lib", "/lib64", "/etc/ld.so.cache"}
    return sorted(places - {"", "/"})


def _own_root(libc: ctypes.CDLL, folder: str, settings: dict[str, Any]) -> bool:
    """A new root with what Python needs, and `_PLACE` of bounded size for the program; it is mounted at `folder`."""
    machine = _MACHINES.get(platform.machine())
    if machine is None or libc.unshare(_NEWNS) != 0 or libc.mount(None, b"/", None, _REC | _PRIVATE, None) != 0:
        return False
    if not _mount(libc, folder, "size=1m,nr_inodes=4k,mode=755"):
        return False
    try:
        _furnish(libc, folder)
        os.mkdir(folder + _PLACE)
        size = f"size={settings['folder_bytes']},nr_inodes={settings['folder_files']},mode=700"
        done = _mount(libc, folder + _PLACE, size)
        os.chdir(folder)
        done = done and _set_read_only(libc, ".", 0) and libc.syscall(machine["pivot_root"], b".", b".") == 0
    except OSError:
        done = False
    if done:
        done = libc.umount2(b".", _DETACH) == 0  # the old root, which is mounted over the new one
        os.chdir(_PLACE)
        return done
    os.chdir("/")
    libc.umount2(os.fsencode(folder), _DETACH)
    os.chdir(folder)
    return False


def _mount(libc: ctypes.CDLL, place: str, options: str) -> bool:
    done: bool = libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", _NOSUID | _NODEV, options.encode()) == 0
    return done


def _set_read_only(libc: ctypes.CDLL, place: str, recursive: int) -> bool:
    attributes = struct.pack("QQQQ", _READ_ONLY | _NOSUID, 0, 0, 0)
    here, size = ctypes.c_long(-100), ctypes.c_size_t(len(attributes))
    done: bool = libc.syscall(_MOUNT_SETATTR, here, os.fsencode(place), recursive, attributes, size) == 0
    return done


def _furnish(libc: ctypes.CDLL, root: str) -> None:
    """Mount readable paths into a new root. Raises OSError on failure."""
    bound: list[str] = []
    for place in [*sorted({os.path.realpath(path) for path in _readable()}), "/dev/null", "/dev/urandom"]:
        if not os.path.exists(place) or any(place.startswith(parent + "/") for parent in bound):
            continue
        target = root + place
        if os.path.isdir(place):
            os.makedirs(target)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o644))
        if libc.mount(os.fsencode(place), os.fsencode(target), None, _BIND | _REC, None) != 0:
            raise OSError(ctypes.get_errno(), place)
        if not _set_read_only(libc, target, _RECURSIVE):
            raise OSError(ctypes.get_errno(), place)
        bound.append(place)
    for place in _readable():  # symbolic links, such as /lib
        real = os.path.realpath(place)
        if real != place and not os.path.lexists(root + place) and not any(place.startswith(e + "/") for e in bound):
            os.makedirs(os.path.dirname(root + place), exist_ok=True)
            os.symlink(real, root + place)


# -- privileges and files -------------------------------------------------------------------------------------------


def _drop_capabilities(libc: ctypes.CDLL) -> bool:
    """Drop all capabilities from every set, permanently."""
    for number in range(64):
        if libc.prctl(_DROP_BOUNDING, number, 0, 0, 0) != 0 and number > 40:
            break
    libc.prctl(_AMBIENT, _AMBIENT_CLEAR, 0, 0, 0)
    libc.prctl(_SECUREBITS, _ROOT_IS_NOBODY, 0, 0, 0)
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
    left = ctypes.create_string_buffer(24)
    return libc.capset(header, none) == 0 and libc.capget(header, left) == 0 and left.raw == none


def _close_files(libc: ctypes.CDLL, folder: str, *, scoped: bool) -> set[str]:
    """Landlock: read only what Python itself needs, write only in `folder`. Empty if the kernel lacks it."""
    create, add, restrict = _LANDLOCK
    abi = libc.syscall(create, None, ctypes.c_size_t(0), 1)
    if abi < 1:
        return set()
    bits = {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)
    everything, read = (1 << bits) - 1, 0b1101
    net, scope = 0b11 if abi >= 4 else 0, 0b11 if abi >= 6 and scoped else 0
    attributes = struct.pack("QQQ", everything, net, scope)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    rules = libc.syscall(create, attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        return set()
    places = [(place, read) for place in _readable()]
    places += [(folder, everything), ("/dev/null", 0b110), ("/dev/urandom", 0b100)]
    for place, allowed in places:
        try:
            handle = os.open(place, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if not os.path.isdir(place):
            allowed &= 0b110 | (1 << 14 if bits > 14 else 0)
        # The kernel's structure is packed: 8 bytes of rights and 4 bytes of the descriptor.
        libc.syscall(add, rules, 1, struct.pack("=Qi", allowed, handle), 0)
        os.close(handle)
    done: bool = libc.syscall(restrict, rules, 0) == 0
    os.close(rules)
    return ({"landlock", "scopes"} if scope else {"landlock"}) if done else set()


# -- system calls -----------------------------------------------------------------------------------------------------

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _LEAVE = 0x20, 0x15, 0x35, 0x45, 0x06
_Steps = list[tuple[int, int, int, int]]


def _argument(number: int, *, high: bool = False) -> tuple[int, int, int, int]:
    """Load the low or high half of an argument of the call, on a little-endian machine."""
    return (_LOAD, 0, 0, 16 + 8 * number + 4 * high)


def _denied_values(call: int, argument: int, values: tuple[int, ...]) -> _Steps:
    """Allow the call unless its argument (32 bits) is one of the values."""
    steps = [_argument(argument)]
    for value in values:
        steps += [(_EQUAL, 0, 1, value), (_LEAVE, 0, 0, _DENY)]
    steps.append((_LEAVE, 0, 0, _ALLOW))
    return [(_EQUAL, 0, len(steps), call), *steps]


def _allowed_value(call: int, argument: int, value: int) -> _Steps:
    """Allow the call if its argument (32 bits) is the value."""
    steps = [_argument(argument), (_EQUAL, 0, 1, value), (_LEAVE, 0, 0, _ALLOW), (_LEAVE, 0, 0, _DENY)]
    return [(_EQUAL, 0, len(steps), call), *steps]


def _filter_steps(machine: dict[str, Any]) -> _Steps:
    code: _Steps = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, machine["architecture"]),
        (_LEAVE, 0, 0, _DENY),
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, 0, 1, 0x40000000),  # x32 numbers, an alias for the same calls
        (_LEAVE, 0, 0, _DENY),
        (_AT_LEAST, 1, 0, _NEWER),
        (_EQUAL, 0, 1, _CLONE3),
        (_LEAVE, 0, 0, _MISSING),
    ]
    for number in (*machine["denied"], *_ANYWHERE):
        code += [(_EQUAL, 0, 1, number), (_LEAVE, 0, 0, _DENY)]
    code += _denied_values(machine["fcntl"], 1, _FCNTL) + _denied_values(machine["ioctl"], 1, _IOCTL)
    code += _denied_values(machine["prctl"], 0, (_PARENT_DEATH,))  # otherwise it could outlive its supervisor
    code += _allowed_value(machine["socketpair"], 0, 1)  # of family unix only, which event loops use to wake themselves
    code += _allowed_value(machine["prlimit"], 0, 0)  # limits of this process only
    return [
        *code,
        (_EQUAL, 0, 6, machine["sendto"]),  # only to the connected peer, not to an address
        _argument(4),
        (_EQUAL, 0, 3, 0),
        _argument(4, high=True),
        (_EQUAL, 0, 1, 0),
        (_LEAVE, 0, 0, _ALLOW),
        (_LEAVE, 0, 0, _DENY),
        (_EQUAL, 0, 3, machine["clone"]),  # threads only
        _argument(0),
        (_ANY_BIT, 1, 0, _THREAD),
        (_LEAVE, 0, 0, _DENY),
        (_LEAVE, 0, 0, _ALLOW),
    ]


def _filter_calls(libc: ctypes.CDLL) -> bool:
    """Install the system-call filter; False if the kernel or the machine has none."""
    machine = _MACHINES.get(platform.machine())
    if machine is None or sys.byteorder != "little":
        return False
    code = _filter_steps(machine)
    packed = b"".join(struct.pack("HBBI", *step) for step in code)
    steps = ctypes.create_string_buffer(packed, len(packed))
    header = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(steps))
    done: bool = libc.prctl(_SET_SECCOMP, _FILTER, ctypes.c_char_p(header), 0, 0) == 0
    return done


if __name__ == "__main__":
    main()
