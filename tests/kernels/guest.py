"""A guest: an initramfs with the programs in it, booted on one kernel; hands back its console.

    /init          the script `init` of this folder: runs the programs, marks their output
    /bin/busybox   everything else a small system needs
    /x/bin/NAME    the tests
    /x/examples/NAME  examples: from there a test starts them, as from cargo's folder beside its own
    /x/...         what `init` reads: settings, environment, sysctls, commands

QEMU emulates two processors in software, so no KVM is needed, and a boot takes some four seconds.
Two, because a race between us and a thread of the kernel wants two. The serial port is all that
leads out of the guest.

The guest has an NVMe controller for the tests to overwrite: `DISKS` says what its namespaces are.
"""

import re
import shlex
import shutil
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from machines import Machine

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]

# Beyond the guest's own deadline: time to boot before it, and to bring out the log after it.
GRACE_SECONDS = 30

# The namespaces of the controller, each of so many bytes: plain; with protection information beside
# each sector; zoned. All of Debian's cloud kernels have the driver built in.
CONTROLLER = "/dev/nvme0"
DISKS = ("", "ms=8,pi=1", "zoned=on,zoned.zone_size=1M,zoned.zone_capacity=1M")
DISK_BYTES = 32 << 20

# How often a guest is booted until one comes so far that it says this, and how long that may take;
# and what a kernel says that met code of its own half patched, which only an emulator shows it.
BOOTS = 3
BOOT_SECONDS = 60
STARTED = "@@ begin"
PATCHED = re.compile(r"\bint3: 0000 \[#")

PT_INTERP = 3


@dataclass(frozen=True)
class Program:
    """A static program to run in the guest. A libtest one reports each test, others only exit."""

    name: str
    path: Path
    arguments: tuple = ()
    libtest: bool = True
    users: tuple = ("root", "user")
    """As whom it runs, of the users of the plan; nobody if it is there for tests to start."""

    @property
    def place(self):
        """Where it is in the guest: an example may have the name of the test that starts it."""
        return f"x/{'bin' if self.libtest else 'examples'}/{self.name}"


@dataclass(frozen=True)
class Plan:
    """What a guest is to do, the same for every kernel."""

    machine: Machine
    busybox: Path
    programs: list
    users: list
    sysctls: list = field(default_factory=list)
    environment: dict = field(default_factory=dict)
    command_line: str = ""
    hugepages: int = 8
    memory_mib: int = 512
    deadline_seconds: int = 600
    sources: tuple = ()
    """Files of the project to have along, as patterns; then the programs run in its folder."""

    def passes(self):
        """(user, number, program) for each time that a program runs, in order."""
        return [(user, number, program) for user in self.users
                for number, program in enumerate(self.programs) if user in program.users]


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
        for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "x/bin", "x/examples"):
            (root / name).mkdir(parents=True)
        # `su` looks the users up.
        (root / "etc/passwd").write_text(
            "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n")
        (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
        # Nor is a name server asked for a name of ours.
        (root / "etc/nsswitch.conf").write_text("hosts: files\n")
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
        _install(HERE / "init", root / "init")
        _install(plan.busybox, root / "bin/busybox")
        for program in plan.programs:
            _install(program.path, root / program.place)
        for pattern in plan.sources:
            _copy_sources(root, pattern)
        _write_settings(plan, root / "x")
        names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        with open(target, "wb") as archive:
            subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"], cwd=root,
                           input=names.encode(), stdout=archive, check=True)


def _copy_sources(root, pattern):
    """Copies files and folders of the project to where they are on this machine."""
    for path in PROJECT.glob(pattern):
        target = root / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            shutil.copyfile(path, target)
        elif path.name != "target":
            shutil.copytree(path, target, ignore=shutil.ignore_patterns("target"))


def boot(vmlinuz, initramfs, plan):
    """Boots the kernel and waits for the guest to end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = _command(vmlinuz, initramfs, plan) + _disks(folder)
        return _run(command, plan, folder / "console")


def _command(vmlinuz, initramfs, plan):
    return [
        *plan.machine.qemu, "-accel", "tcg,thread=multi", "-smp", "2",
        "-m", str(plan.memory_mib), "-display", "none", "-serial", "stdio", "-no-reboot",
        "-kernel", str(vmlinuz), "-initrd", str(initramfs),
        # `quiet` keeps kernel messages out of the middle of the tests' lines: the log is printed
        # afterwards, from a buffer that holds all of it. A panic still comes through; it and the
        # guest's reboot end QEMU.
        # One queue of the disks is polled, for rings that poll.
        "-append", f"{plan.machine.console} quiet loglevel=1 log_buf_len=1M panic=-1 nokaslr "
                   f"nvme.poll_queues=1 {plan.command_line}",
    ]


def _disks(folder):
    options = ["-device", "nvme,id=nvme,serial=annulus"]
    for number, kind in enumerate(DISKS, start=1):
        image = folder / f"disk{number}"
        with open(image, "wb") as file:
            file.truncate(DISK_BYTES)
        options += ["-drive", f"if=none,id=disk{number},format=raw,file={image}"]
        namespace = f"nvme-ns,bus=nvme,drive=disk{number},nsid={number}"
        options += ["-device", f"{namespace},{kind}" if kind else namespace]
    return options


def _run(command, plan, output):
    """Runs the guest, again if the emulator failed: if it did not come to its first program, or met
    the `int3` that a kernel leaves for a moment where it patches its own code."""
    for _ in range(BOOTS):
        console = _run_once(command, plan, output)
        if STARTED in console.text and not PATCHED.search(console.text):
            break
    return console


def _run_once(command, plan, output):
    start = time.monotonic()
    with open(output, "wb") as file:
        qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file,
                                stderr=subprocess.STDOUT)
    ended = True
    try:
        while qemu.poll() is None:
            time.sleep(0.2)
            seconds = time.monotonic() - start
            if seconds > plan.deadline_seconds + GRACE_SECONDS or (
                    seconds > BOOT_SECONDS and STARTED not in _text(output)):
                ended = False
                break
    finally:
        qemu.kill()
        qemu.wait()
    return Console(_text(output), time.monotonic() - start, ended)


def _text(output):
    return output.read_bytes().decode(errors="replace").replace("\r", "")


def _install(source, target):
    shutil.copyfile(source, target)
    target.chmod(0o755)


def _write_settings(plan, folder):
    environment = {"HOME": "/tmp", "TMPDIR": "/tmp", "RUST_BACKTRACE": "1",
                   "NO_COLOR": "1", "ANNULUS_NVME": CONTROLLER, **plan.environment}
    _write_lines(folder / "settings", [
        f"deadline={plan.deadline_seconds}",
        f"hugepages={plan.hugepages}",
        f"users={shlex.quote(' '.join(plan.users))}",
        f"folder={shlex.quote(str(PROJECT) if plan.sources else '/')}",
    ])
    _write_lines(folder / "environment",
                 [f"export {name}={shlex.quote(value)}" for name, value in environment.items()])
    _write_lines(folder / "sysctls", plan.sysctls)
    for user in plan.users:
        _write_lines(folder / f"commands-{user}", [
            f"{number} " + shlex.join([f"/{program.place}", *program.arguments])
            for whose, number, program in plan.passes() if whose == user])


def _write_lines(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))
