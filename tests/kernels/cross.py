"""A Debian to build in for a machine that is not the host's: unpacked into the cache, entered by
`unshare` and `chroot`.

    mirror ──► the packages, and all they need ──► a folder ──► cargo, offline, inside of it

Rustup's compiler has no standard library for another machine, and would have to download it;
Debian's compiler has one, and Debian has the linker and the C library too. Nothing is installed,
and no script of a package runs. Inside, the project and the crates that cargo has fetched are where
they are outside, so paths mean the same. An ordinary user enters by a user namespace, where the
machine has those; else it takes root.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from apt import Apt, Unavailable

# The suite whose compiler is new enough for this crate. It is the same for both architectures.
SUITE = "forky"
PACKAGES = ("rustc", "cargo", "gcc", "libstd-rust-dev:arm64", "gcc-aarch64-linux-gnu",
            "libc6-dev-arm64-cross", "busybox-static:arm64")
# Programs that enter it, which a bare Debian has.
PROGRAMS = ("unshare", "mount", "chroot", "dpkg-deb", "tar")
# A half of what is in the packages, and nothing that a compiler reads.
LEFT_OUT = ("./usr/share/doc", "./usr/share/man", "./usr/share/info", "./usr/share/locale")
# Links that belong to no package: Debian's installer makes them.
LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}

# Makes a mount namespace of its own, so that nothing need be unmounted: $1 is the root, $2 the
# folders to have inside, then comes the command.
ENTER = """
root=$1 folders=$2; shift 2
for folder in $folders; do
    mkdir -p "$root$folder"
    mount --rbind "$folder" "$root$folder"
done
exec chroot "$root" "$@"
"""


class Root:
    """The unpacked Debian."""

    def __init__(self, cache, say):
        self.path = Path(cache) / "root-aarch64"
        self.cache = Path(cache)
        self.say = say

    def prepare(self):
        """Makes it, unless it is there."""
        made_of = self.path / "made-of"
        recipe = " ".join([SUITE, *PACKAGES])
        if made_of.is_file() and made_of.read_text() == recipe:
            return
        self.say(f"unpacking Debian {SUITE}'s compiler for aarch64")
        shutil.rmtree(self.path, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=self.cache) as folder:
            apt = Apt(folder, (SUITE,), architectures=("amd64", "arm64"))
            apt.refresh()
            apt.run("apt-get", "-q", "-y", "--no-install-recommends", "--download-only", "install",
                    *PACKAGES)
            part = Path(folder) / "root"
            for name in LINKS.values():
                (part / name).mkdir(parents=True)
            for name, target in LINKS.items():
                (part / name).symlink_to(target)
            (part / "tmp").mkdir()
            for deb in sorted(Path(folder, "archives").glob("*.deb")):
                _unpack(deb, part)
            (part / "made-of").write_text(recipe)
            part.rename(self.path)

    @property
    def busybox(self):
        """A static busybox of the other machine."""
        return self.path / "usr/bin/busybox"

    def command(self, words, folders):
        """The words that run `words` inside, where `folders` are too. There is no shell."""
        missing = [name for name in PROGRAMS if not shutil.which(name)]
        if missing:
            raise Unavailable(f"to build for aarch64 we need {', '.join(missing)}")
        enter = ["unshare", "--mount", "--propagation", "private"]
        if os.getuid() != 0:
            enter.append("--map-root-user")
            # What a user may not do here, and why, is known best before anything was built.
            if subprocess.run([*enter, "true"], stderr=subprocess.DEVNULL,
                              check=False).returncode != 0:
                raise Unavailable("to build for aarch64 we need root, or a machine that lets "
                                  "ordinary users make namespaces (unshare --map-root-user)")
        if any(" " in str(folder) for folder in folders):
            raise Unavailable(f"a space in a path: {' '.join(map(str, folders))}")
        folders = " ".join(["/dev", "/proc", *map(str, folders)])
        return [*enter, "sh", "-ec", ENTER, "sh", str(self.path), folders, *words]


def _unpack(deb, root):
    """Adds the files of a package."""
    exclude = [f"--exclude={name}" for name in LEFT_OUT]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)],
                          stdout=subprocess.PIPE) as dpkg:
        tar = subprocess.run(
            ["tar", "-x", "-C", str(root), "--keep-directory-symlink", "--no-same-owner", *exclude],
            stdin=dpkg.stdout, check=False)
    if dpkg.returncode != 0 or tar.returncode != 0:
        raise Unavailable(f"{deb.name} could not be unpacked")
