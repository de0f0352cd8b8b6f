"""A guest: an initramfs with the programs in it, booted on one kernel; hands back its console.

    /init          the script `init` of this folder: runs the programs, marks their output
    /bin/busybox   everything else a small system needs
    /x/bin/NAME    the programs under test
    /x/...         what `init` reads: settings, environment, sysctls, commands

QEMU emulates two processors in software, so no KVM is needed, and a boot takes some four seconds.
Two, because a race between us and a thread of the kernel wants two. And the machine is `pc`, since
under the smaller `microvm` we got one processor without ACPI, and with it a guest that hung (QEMU
7.2, Linux 7.3, 11 boots of 12). The serial port is all that leads out of the guest.
"""

import shlex
import shutil
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Beyond the guest's own deadline: time to boot before it, and to bring out the log after it.
GRACE_SECONDS = 30

PT_INTERP = 3


@dataclass(frozen=True)
class Program:
    """A static program to run in the guest. A libtest one reports each test, others only exit."""

    name: str
    path: Path
    arguments: tuple = ()
    libtest: bool = True


@dataclass(frozen=True)
class Plan:
    """What a guest is to do, the same for every kernel."""

    programs: list
    users: list
    sysctls: list = field(default_factory=list)
    environment: dict = field(default_factory=dict)
    hugepages: int = 8
    memory_mib: int = 512
    deadline_seconds: int = 600


@dataclass(frozen=True)
class Console:
    """What came out of a guest."""

    text: str
    seconds: float
    ended: bool
    """Whether the guest stopped by itself: false if QEMU had to be killed."""


def is_static(path):
    """Whether a 64-bit ELF file asks for no dynamic loader, of which the guest has none."""
    image = Path(path).read_bytes()
    if image[:4] != b"\x7fELF":
        return False
    (table,) = struct.unpack_from("<Q", image, 32)
    entry_bytes, count = struct.unpack_from("<HH", image, 54)
    headers = range(table, table + count * entry_bytes, entry_bytes)
    return all(struct.unpack_from("<I", image, at)[0] != PT_INTERP for at in headers)


def build_initramfs(plan, target):
    """Writes the initramfs that carries out `plan` to the file `target`."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "x/bin"):
            (root / name).mkdir(parents=True)
        # `su` looks the users up.
        (root / "etc/passwd").write_text(
            "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n")
        (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
        _install(HERE / "init", root / "init")
        _install(shutil.which("busybox"), root / "bin/busybox")
        for program in plan.programs:
            _install(program.path, root / "x/bin" / program.name)
        _write_settings(plan, root / "x")
        names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        with open(target, "wb") as archive:
            subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"], cwd=root,
                           input=names.encode(), stdout=archive, check=True)


def boot(vmlinuz, initramfs, plan):
    """Boots the kernel and waits for the guest to end."""
    command = [
        "qemu-system-x86_64",
        "-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2",
        "-m", str(plan.memory_mib), "-display", "none", "-serial", "stdio", "-no-reboot",
        "-kernel", str(vmlinuz), "-initrd", str(initramfs),
        # `quiet` keeps kernel messages out of the middle of the tests' lines: the log is printed
        # afterwards, from a buffer that holds all of it. A panic still comes through; it and the
        # guest's reboot, a triple fault, end QEMU.
        "-append", "console=ttyS0 quiet loglevel=1 log_buf_len=1M panic=-1 reboot=t "
                   "mitigations=off nokaslr",
    ]
    start = time.monotonic()
    qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)
    ended = True
    try:
        output, _ = qemu.communicate(timeout=plan.deadline_seconds + GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        ended = False
        qemu.kill()
        output, _ = qemu.communicate()
    finally:
        qemu.kill()
    text = output.decode(errors="replace").replace("\r", "")
    return Console(text, time.monotonic() - start, ended)


def _install(source, target):
    shutil.copyfile(source, target)
    target.chmod(0o755)


def _write_settings(plan, folder):
    environment = {"HOME": "/tmp", "TMPDIR": "/tmp", "RUST_BACKTRACE": "1",
                   "NO_COLOR": "1", **plan.environment}
    _write_lines(folder / "settings", [
        f"deadline={plan.deadline_seconds}",
        f"hugepages={plan.hugepages}",
        f"users={shlex.quote(' '.join(plan.users))}",
    ])
    _write_lines(folder / "environment",
                 [f"export {name}={shlex.quote(value)}" for name, value in environment.items()])
    _write_lines(folder / "sysctls", plan.sysctls)
    _write_lines(folder / "commands", [
        shlex.join([f"/x/bin/{program.name}", *program.arguments]) for program in plan.programs])


def _write_lines(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))
