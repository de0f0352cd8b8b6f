"""The machines that a guest can be: what each is called, where its files are, how QEMU makes it.

    x86_64     the machine of the host; cargo builds for it as it is
    aarch64    another one: cross.py brings a compiler; pages of 4 KiB, or by option of 16 KiB
"""

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent

# For what runs as it is on every machine, so that an emulator need not try all of it again.
WITHOUT_KERNEL = ("abi", "allocations", "encoding", "enter", "exact", "geometry", "histories",
                  "hostile", "lanes", "layouts", "model", "owned", "race")

# Those of them that try many histories, which takes an emulator minutes.
LONG = ("histories", "hostile", "model", "owned", "race")


@dataclass(frozen=True)
class Machine:
    """A kind of guest."""

    name: str
    debian: str
    """Debian's name of the architecture."""
    flavours: dict
    """By the size of a page, which of Debian's kernels to boot; the first is the usual one."""
    suffix: str
    """What tells its files from those of the other machine: pins, skips, consoles."""
    qemu: tuple
    """The emulator, with the machine to emulate."""
    package: str
    """What brings the emulator on Debian."""
    console: str
    """The serial port, and what else a kernel must be told here."""
    tests: tuple = ()
    """Programs to run besides those of `ALWAYS`, as root only, because they need no kernel."""
    cross: bool = False

    @property
    def triple(self):
        """Rust's name of it."""
        return f"{self.name}-unknown-linux-gnu"

    @property
    def pins(self):
        """The file of pinned kernels."""
        return HERE / f"pins{self.suffix}.tsv"

    @property
    def skips(self):
        """The file of pinned numbers of skipped tests."""
        return HERE / f"skips{self.suffix}.tsv"


# `pc`, since under the smaller `microvm` we got one processor without ACPI, and with it a guest
# that hung (QEMU 7.2, Linux 7.3, 11 boots of 12). A panic reboots it by a triple fault.
X86_64 = Machine(
    "x86_64", "amd64", {"4k": "cloud-amd64"}, "",
    ("qemu-system-x86_64", "-machine", "pc", "-cpu", "max"), "qemu-system-x86",
    "console=ttyS0 reboot=t mitigations=off")

# The emulated signing of pointers is the quick one, which signs nothing worth attacking.
AARCH64 = Machine(
    "aarch64", "arm64", {"4k": "cloud-arm64", "16k": "arm64-16k"}, "-aarch64",
    ("qemu-system-aarch64", "-machine", "virt", "-cpu", "max,pauth-impdef=on"), "qemu-system-arm",
    "console=ttyAMA0 mitigations=off", tests=WITHOUT_KERNEL, cross=True)
