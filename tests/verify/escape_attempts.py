"""A program that tries to get out of the sandbox: prints, as JSON, what each attempt came to.

Run by test_sandbox_child.py with the line `GIVEN = {...}` in front: groups (those to try), outside (folder with a file
`secret`), parent (process id of the tests), port (a listening TCP port), abstract and socket_path (unix sockets, the
first by its abstract name). An attempt that raises or returns a false value has failed; any other value is what it got.
"""

# ruff: noqa: F821
import ctypes
import json
import os
import platform
import resource
import signal
import socket
import struct

libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
outside, parent = GIVEN["outside"], GIVEN["parent"]
# What is only to be seen by a signal that arrives would end the process that waits for it: none does by default.
HARMLESS = 0


def call(number_x86, number_arm, *arguments):
    """Whether a raw system call succeeds."""
    result = libc.syscall(number_x86 if X86 else number_arm, *arguments)
    return result >= 0 and f"returned {result}"


def read(path):
    with open(path, "rb") as file:
        return repr(file.read(64))


def write(path):
    with open(path, "ab") as file:
        file.write(b"x")
    return "written"


def connect(family, address, kind=socket.SOCK_STREAM):
    one = socket.socket(family, kind)
    one.settimeout(2)
    one.connect(address)
    return "connected"


def send_from_pair(address):
    """A datagram to somebody else, through a socket that was not opened but came in a pair."""
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return one.sendto(b"x", address)


def message_from_pair(address):
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return one.sendmsg([b"x"], [], 0, address)


def any_family():
    """Every family of sockets that can be opened."""
    opened = []
    for family in range(46):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            try:
                socket.socket(family, kind).close()
                opened.append((family, kind))
            except OSError:
                pass
    return opened


def pairs():
    opened = []
    for family in range(2, 46):
        try:
            socket.socketpair(family)
            opened.append(family)
        except OSError:
            pass
    return opened


def own(command, value):
    """Make another process the one that is told of input, which is a signal to it."""
    import fcntl

    one, _ = os.pipe()
    return fcntl.fcntl(one, command, value) == 0 and "owned"


def own_by_ioctl(command):
    import fcntl

    one, _ = socket.socketpair()
    return fcntl.ioctl(one, command, struct.pack("i", parent)) is not None and "owned"


def network_devices():
    """Those of the machine; in a namespace there is none but the loopback interface."""
    return [name for _, name in socket.if_nameindex() if name != "lo"]


def climb():
    """Out of the root, as somebody does who may change it."""
    os.mkdir("up")
    os.chroot("up")
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    return os.listdir("/")


def capabilities():
    """Those in the effective, permitted and inheritable sets."""
    found = ctypes.create_string_buffer(24)
    libc.capget(struct.pack("Ii", 0x20080522, 0), found)
    return any(found.raw) and found.raw.hex()


def bounding():
    return [number for number in range(41) if libc.prctl(23, number, 0, 0, 0) == 1]


def run_memory():
    """A program that was never a file."""
    handle = os.memfd_create("x")
    os.write(handle, b"#!/bin/sh\nexit 0\n")
    os.execve(handle, ["x"], {})


def map_other():
    """Memory of the parent through its file."""
    with open(f"/proc/{parent}/mem", "rb", 0) as file:
        return file.seek(0)


ATTEMPTS = {
    "files": {
        "read a secret": lambda: read(outside + "/secret"),
        "list a folder": lambda: os.listdir(outside),
        "read /etc/passwd": lambda: read("/etc/passwd"),
        "read /etc/shadow": lambda: read("/etc/shadow"),
        "write a file": lambda: write(outside + "/new"),
        "append": lambda: write(outside + "/secret"),
        "truncate": lambda: os.truncate(outside + "/secret", 0) is None and "truncated",
        "remove": lambda: os.remove(outside + "/secret") is None and "removed",
        "rename": lambda: os.rename(outside + "/secret", "mine") is None and "renamed",
        "link": lambda: os.link(outside + "/secret", "linked") is None and read("linked"),
        "symlink": lambda: os.symlink(outside, "link") is None and os.listdir("link"),
        "make a folder": lambda: os.mkdir(outside + "/made") is None and "made",
        "fill the temporary folder": lambda: write("/tmp/curate-escape"),
        "fill shared memory": lambda: write("/dev/shm/curate-escape"),
        "write to Python": lambda: write(os.__file__),
        "the root of the parent": lambda: os.listdir(f"/proc/{parent}/root"),
        "the folder of the parent": lambda: os.listdir(f"/proc/{parent}/cwd"),
        "the files of the parent": lambda: os.listdir(f"/proc/{parent}/fd"),
        "a tree of mounts": lambda: read("/proc/self/mountinfo"),
        "open by handle": lambda: call(304, 265, -100, struct.pack("IiQ", 8, 1, 2), 0),
    },
    "secrets": {
        "environment of the parent": lambda: read(f"/proc/{parent}/environ"),
        "memory of the parent": map_other,
        "maps of the parent": lambda: read(f"/proc/{parent}/maps"),
        "command of the parent": lambda: read(f"/proc/{parent}/cmdline"),
        "own environment": lambda: [
            n for n in os.environ if "KEY" in n or "TOKEN" in n or "SECRET" in n or n == "HOME"
        ],
    },
    "network": {
        "TCP": lambda: connect(socket.AF_INET, ("127.0.0.1", GIVEN["port"])),
        "netlink": lambda: network_devices(),
    },
    "abstract": {
        "abstract socket": lambda: connect(socket.AF_UNIX, "\0" + GIVEN["abstract"], socket.SOCK_DGRAM),
        "datagram from a pair to an abstract socket": lambda: send_from_pair("\0" + GIVEN["abstract"]),
        "message from a pair to an abstract socket": lambda: message_from_pair("\0" + GIVEN["abstract"]),
    },
    "sockets": {
        "of any family": any_family,
        "pairs of other families": pairs,
    },
    "paths": {
        "socket by path": lambda: connect(socket.AF_UNIX, GIVEN["socket_path"], socket.SOCK_DGRAM),
        "datagram from a pair to a path": lambda: send_from_pair(GIVEN["socket_path"]),
        "message from a pair to a path": lambda: message_from_pair(GIVEN["socket_path"]),
    },
    "signals": {
        "kill": lambda: os.kill(parent, HARMLESS) is None and "signalled",
        "kill by queue": lambda: call(129, 138, parent, HARMLESS, ctypes.create_string_buffer(128)),
        "kill a thread": lambda: call(200, 130, parent, HARMLESS),
        "kill by handle": lambda: call(424, 424, os.pidfd_open(parent), HARMLESS, None, 0),
    },
    "owners": {
        "F_SETOWN": lambda: own(8, parent),
        "F_SETOWN of a group": lambda: own(8, -parent),
        "F_SETSIG": lambda: own(10, signal.SIGTERM),
        "F_SETOWN_EX": lambda: own(15, struct.pack("ii", 1, parent)),
        "FIOSETOWN": lambda: own_by_ioctl(0x8901),
        "SIOCSPGRP": lambda: own_by_ioctl(0x8902),
    },
    "processes": {
        "kill everybody": lambda: os.kill(-1, HARMLESS) is None and "signalled",
        "fork": lambda: os.fork() == 0 and os._exit(0),
        "vfork": lambda: call(58, 220, 17, 0),
        "clone": lambda: call(56, 220, 17, None, None, None, None),
        "clone3": lambda: call(435, 435, struct.pack("QQQQQQQQ", 0, 0, 0, 0, 17, 0, 0, 0), ctypes.c_size_t(64)),
        "exec": lambda: os.execv("/usr/bin/true", ["true"]),
        "exec from memory": run_memory,
        "spawn": lambda: os.posix_spawn("/usr/bin/true", ["true"], {}),
        "outlive the parent": lambda: libc.prctl(1, 0, 0, 0, 0) == 0 and "possible",
        "trace": lambda: call(101, 117, 16, parent, None, None),
        "read memory": lambda: call(310, 270, parent, None, 0, None, 0, 0),
        "write memory": lambda: call(311, 271, parent, None, 0, None, 0, 0),
        "limits of another": lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE),
        "compare processes": lambda: call(312, 272, os.getpid(), parent, 0, 0, 0),
        "priority of another": lambda: os.setpriority(os.PRIO_PROCESS, parent, 19) is None and "lowered",
        "processors of another": lambda: os.sched_setaffinity(parent, {0}) is None and "moved",
        "pages of another": lambda: call(279, 239, parent, 0, None, None, None, 0),
        "a file of another": lambda: call(438, 438, os.pidfd_open(parent), 0, 0),
    },
    "kernel": {
        "change the root": climb,
        "mount": lambda: call(165, 40, b"none", b".", b"tmpfs", 0, None),
        "open a tree": lambda: call(428, 428, -100, b"/", 1),
        "new mounts": lambda: call(272, 97, 0x10020000),
        "io_uring": lambda: call(425, 425, 8, ctypes.create_string_buffer(256)),
        "userfaultfd": lambda: call(323, 282, 1),
        "bpf": lambda: call(321, 280, 0, ctypes.create_string_buffer(128), 128),
        "perf": lambda: call(298, 241, ctypes.create_string_buffer(128), 0, -1, -1, 0),
        "keys": lambda: call(248, 217, b"user", b"x", b"y", 1, -4),
        "ask for keys": lambda: call(250, 219, 0, -4, 0),
        "module": lambda: call(175, 105, b"", 0, b""),
        "kexec": lambda: call(246, 104, 0, 0, None, 0),
        "reboot": lambda: call(169, 142, 0, 0, 0, None),
        "clock": lambda: call(164, 170, struct.pack("qq", 0, 0), None),
        "host name": lambda: call(170, 161, b"x", 1),
        "log": lambda: call(103, 116, 3, ctypes.create_string_buffer(64), 64),
        "ports": lambda: call(172, -1, 3) if X86 else False,
        "shared memory": lambda: call(29, 194, 0, 4096, 0o1600),
        "queue": lambda: call(68, 186, 0, 0o1600),
        "message queue": lambda: call(240, 180, b"x", 0o102, 0o600, None),
        "file in memory": lambda: os.memfd_create("x") and "made",
        "watch files": lambda: call(294, 26, 0),
        "tomorrow's call": lambda: call(999, 999, 0),
    },
    "modes": {
        "set-user-id": lambda: os.chmod("program.py", 0o4755) is None and "set",
        "times": lambda: os.utime("program.py", (0, 0)) is None and "set",
        "attributes": lambda: os.setxattr("program.py", "user.x", b"y") is None and "set",
    },
    "users": {
        "own user": lambda: os.setuid(1) is None and "changed",
        "groups": lambda: os.setgroups([]) is None and "changed",
        "capabilities": capabilities,
        "capabilities to be had": bounding,
        "owner": lambda: os.chown("program.py", 1, 1) is None and "changed",
        "device": lambda: os.mknod("null", 0o20666, os.makedev(1, 3)) is None and "made",
        "privileges by exec": lambda: libc.prctl(39, 0, 0, 0, 0) != 1 and "possible",
        "more files": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096)) is None and "raised",
        "more memory": lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)) is None and "raised",
        "a page that stays": lambda: call(149, 228, ctypes.addressof(ctypes.create_string_buffer(1)), 8192),
    },
}


def attempt(what):
    try:
        return what() or None
    except (OSError, ValueError, AttributeError, OverflowError):
        return None


print(json.dumps({group: {name: attempt(what) for name, what in ATTEMPTS[group].items()} for group in GIVEN["groups"]}))
