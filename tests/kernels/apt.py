"""Apt for a folder of our own: reads a mirror's package lists, and fetches packages from it.

    sources, architectures ──► lists in the folder ──► search, show, download

The mirror is the one that this machine's apt uses. Nothing is installed, no script of a package
runs, and the machine's own sources, lists and packages stay as they are.
"""

import subprocess
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# The archive may be known by any of these names.
SUITES = ("bullseye", "bookworm", "trixie", "forky", "sid", "stable", "oldstable", "testing",
          "unstable")


class Unavailable(Exception):
    """A package that cannot be had, with the reason in words."""


class Apt:
    """Package lists in `folder`, of the suites and architectures that it is made with."""

    def __init__(self, folder, suites, security_suites=(), architectures=("amd64",)):
        self.folder = Path(folder)
        self.suites = suites
        self.security_suites = security_suites
        self.architectures = architectures

    def refresh(self):
        """Fetches the lists."""
        main, security = _mirrors()
        sources = [(main, suite) for suite in self.suites]
        if security:
            sources += [(security, suite) for suite in self.security_suites]
        for name in ("lists/partial", "archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        architectures = ",".join(self.architectures)
        self._sources.write_text("".join(
            f"deb [arch={architectures} signed-by={KEYRING}] {uri} {suite} main\n"
            for uri, suite in sources))
        # As on a machine with nothing installed, so that what a package needs comes with it.
        self._status.touch()
        self.run("apt-get", "-q", "update")

    def run(self, program, *arguments, cwd=None):
        """Runs `apt-get` or `apt-cache` on these lists; gives what it printed."""
        options = {
            "APT::Architecture": self.architectures[0],
            "APT::Architectures": ",".join(self.architectures),
            "Dir::State": self.folder,
            "Dir::State::Lists": self.folder / "lists",
            "Dir::State::Status": self._status,
            "Dir::Etc::SourceList": self._sources,
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::Cache": self.folder,
            # Apt would hand downloads to a user that may not write to this folder.
            "APT::Sandbox::User": "",
            # Neither translations nor the components of desktops.
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        }
        flags = [f"-o{name}={value}" for name, value in options.items()]
        done = subprocess.run([program, *flags, *arguments], cwd=cwd, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.startswith("E:")]
            words = " ".join(lines) or done.stderr.strip()
            # What apt cannot install it explains where it prints everything else.
            verb = next(word for word in arguments if not word.startswith("-"))
            raise Unavailable(f"{program} {verb}: {words} {_unmet(done.stdout)}".rstrip())
        return done.stdout

    @property
    def _sources(self):
        return self.folder / "sources.list"

    @property
    def _status(self):
        return self.folder / "status"


def _unmet(text):
    head, _, unmet = text.partition("The following packages have unmet dependencies:")
    return " ".join(unmet.split()) if head != text else ""


def _mirrors():
    """The addresses of the Debian archive and, if it is in use, of its security archive."""
    # Without `--no-release-info` apt is silent about sources whose lists it never fetched.
    targets = subprocess.run(
        ["apt-get", "indextargets", "--no-release-info", "--format", "$(RELEASE) $(REPO_URI)",
         "Created-By: Packages"], stdout=subprocess.PIPE, text=True, check=True).stdout
    uris = dict(line.split() for line in reversed(targets.splitlines()))
    main = next((uris[name] for name in SUITES if name in uris), None)
    if not main:
        raise Unavailable("this machine's apt names no Debian mirror")
    return main, next((uri for name, uri in uris.items() if name.endswith("-security")), None)
