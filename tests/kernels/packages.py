"""Kernels from Debian: finds the package of a series, fetches it, takes its vmlinuz out.

    pins.tsv  ──►  the exact package of each series, so that two runs test the same kernel
    mirror    ──►  the newest of the series, once the pinned package is gone from there

The mirror is the one that this machine's apt uses, read through package lists of our own (apt.py).
"""

import functools
import os
import re
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from apt import Apt, Unavailable

PINS_HEAD = "# The package that stands for each series. `run --update-pins` rewrites this.\n" \
            "# series\tpackage\tversion\n"

# Old suites keep old kernels, backports bring the ones between two releases.
SUITES = ("bullseye", "bookworm", "bookworm-backports", "trixie", "trixie-backports", "forky",
          "sid", "experimental")
SECURITY_SUITES = ("bullseye-security", "bookworm-security", "trixie-security")

# From 6.19 on the kernel itself is in `linux-binary-`, and `linux-image-` only depends on it.
NAMES = r"^linux-(image|binary)-[0-9].*-{flavour}$"

# What holds a kernel weighs ten megabytes or more, what only depends on one a few kilobytes.
SMALLEST_KERNEL_BYTES = 1 << 20


@dataclass(frozen=True)
class Package:
    """One kernel package, as the mirror names it."""

    name: str
    version: str

    @property
    def series(self):
        """The first two numbers of the version: `6.12` of `6.12.117-1`."""
        return re.match(r"\d+\.\d+", self.version).group()


def read_pins(machine):
    """The pinned packages, by series, in the order of the file."""
    lines = machine.pins.read_text().splitlines()
    rows = [line.split("\t") for line in lines if line[:1] not in ("", "#")]
    return {series: Package(name, version) for series, name, version in rows}


def write_pins(machine, pins):
    """Rewrites the file of pins."""
    rows = [f"{series}\t{pin.name}\t{pin.version}\n" for series, pin in pins.items()]
    machine.pins.write_text(PINS_HEAD + "".join(rows))


class Kernels:
    """The kernels in the cache, and behind it those on the mirror."""

    def __init__(self, machine, pages, say):
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        self.cache = Path(home) / "annulus-kernels"
        self.cache.mkdir(parents=True, exist_ok=True)
        self.say = say
        self.flavour = machine.flavours[pages]
        usual = next(iter(machine.flavours.values()))
        # All flavours of a version are built together.
        self.pins = {
            series: Package(pin.name.removesuffix(usual) + self.flavour, pin.version)
            for series, pin in read_pins(machine).items()}
        self.apt = Apt(self.cache / machine.suffix.strip("-"), SUITES, SECURITY_SUITES,
                       (machine.debian,))

    def find(self, wanted):
        """The package of a series, or of the `newest` one on the mirror, whatever is pinned."""
        if wanted == "newest":
            return self.newest(max(self.on_mirror, key=_numbers))
        pin = self.pins.get(wanted)
        if pin and self._cached(pin).exists():
            return pin
        if wanted not in self.on_mirror:
            raise Unavailable(f"the mirror has no Debian kernel {wanted} of flavour {self.flavour}")
        if pin in self.on_mirror[wanted]:
            return pin
        newest = self.newest(wanted)
        if pin:
            self.say(f"{wanted}: {pin.name} {pin.version} is gone from the mirror, "
                     f"using {newest.name} {newest.version}")
        else:
            self.say(f"{wanted}: not pinned, using {newest.name} {newest.version}")
        return newest

    def newest(self, series):
        """The newest package of a series on the mirror."""
        return max(self.on_mirror[series], key=functools.cmp_to_key(_compare))

    def vmlinuz(self, package):
        """The path of the package's kernel, fetched if it is not in the cache."""
        target = self._cached(package)
        if not target.exists():
            self.say(f"{package.series}: fetching {package.name} {package.version}")
            target.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.cache) as folder:
                self.apt.run("apt-get", "-q", "download", f"{package.name}={package.version}",
                             cwd=folder)
                part = Path(folder) / "vmlinuz"
                _unpack(next(Path(folder).glob("*.deb")), part)
                part.rename(target)
        return target

    @functools.cached_property
    def on_mirror(self):
        """All kernel packages on the mirror, by series."""
        self.say("reading the mirror's package lists")
        try:
            self.apt.refresh()
        except Unavailable as problem:
            # A suite may have left the mirror; what the others hold is still good.
            self.say(f"note: {problem}")
        names = self.apt.run("apt-cache", "search", "--names-only",
                             NAMES.format(flavour=self.flavour)).splitlines()
        if not names:
            raise Unavailable(f"the package lists of the mirror name no kernel {self.flavour}")
        found = {}
        records = self.apt.run("apt-cache", "show", *(name.split()[0] for name in names))
        for record in records.split("\n\n"):
            fields = dict(re.findall(r"^(Package|Version|Size): (.*)$", record, re.MULTILINE))
            if int(fields.get("Size", 0)) >= SMALLEST_KERNEL_BYTES:
                package = Package(fields["Package"], fields["Version"])
                found.setdefault(package.series, set()).add(package)
        return found

    def _cached(self, package):
        return self.cache / "vmlinuz" / f"{package.name}_{package.version}"


def _numbers(series):
    return [int(number) for number in series.split(".")]


def _compare(left, right):
    """Orders packages by dpkg's idea of a version."""
    for relation, order in (("lt", -1), ("gt", 1)):
        command = ["dpkg", "--compare-versions", left.version, relation, right.version]
        if subprocess.run(command, check=False).returncode == 0:
            return order
    return 0


def _unpack(deb, target):
    """Writes the kernel in a package to the file `target`."""
    with subprocess.Popen(["dpkg", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as dpkg:
        with tarfile.open(fileobj=dpkg.stdout, mode="r|") as archive:
            for member in archive:
                if member.isfile() and re.search(r"/vmlinuz(-[^/]*)?$", member.name):
                    target.write_bytes(archive.extractfile(member).read())
                    return dpkg.kill()
    raise Unavailable(f"no vmlinuz in {deb.name}")
