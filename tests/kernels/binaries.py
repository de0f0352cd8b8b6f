"""The programs under test: built by cargo, statically, because the guest has no shared libraries.

They get a target folder of their own (`target/kernels`): static linking is a different RUSTFLAGS,
and in the shared folder each build would throw away the other's work.
"""

import json
import os
import subprocess
from pathlib import Path

from guest import Program

PROJECT = Path(__file__).resolve().parents[2]
TARGET_FOLDER = PROJECT / "target/kernels"
STATIC = "-C target-feature=+crt-static"

# The integration tests that every run has.
ALWAYS = ("kernel", "moved")
# Those that start the programs of examples.
STARTING_EXAMPLES = ("examples", "echo", "fanout", "httpd", "redis", "small")
# What these read of the project, where they look for it.
SOURCES = ("Cargo.lock", "Cargo.toml", "examples/*", "docs/*.md", "docs/book/src/*.txt")


class BuildFailed(Exception):
    """Cargo failed (and has said why), or built something unexpected."""


class Builder:
    """Builds for one machine, if need be inside the Debian of cross.py (`root`)."""

    def __init__(self, machine, root, features):
        self.machine = machine
        self.root = root
        self.features = features

    def build(self, tests, extra, examples, arguments):
        """The programs of integration tests; of `extra` ones that need no kernel, together with the
        unit tests; and of examples, which are (name, arguments) pairs."""
        programs = []
        if tests:
            names = [word for name in [*tests, *extra] for word in ("--test", name)]
            libraries = ["annulus", "annulus_sys"] if extra else []
            unit = ["--lib", "--package", "annulus-sys"] if extra else []
            found = self._cargo(["test", "--no-run", *unit, *names])
            programs += [Program(name, _only(found, name), tuple(arguments)) for name in tests]
            programs += [Program(name, _only(found, name), tuple(arguments), users=("root",))
                         for name in libraries + extra]
        if examples:
            names = [word for name, _ in examples for word in ("--example", name)]
            found = self._cargo(["build", *names])
            programs += [Program(name, _only(found, name), tuple(words), libtest=False)
                         for name, words in examples]
        return programs

    def all_examples(self):
        """The program of each example, for tests to start."""
        found = self._cargo(["build", "--examples"])
        return [Program(name, path, libtest=False, users=()) for name, path in found.items()]

    def _cargo(self, command):
        """Runs cargo and gives the programs that it built, by the name of their target."""
        command = ["cargo", *command, "--profile", "guest", "--package", "annulus",
                   "--target", self.machine.triple, "--message-format", "json-render-diagnostics"]
        if self.features:
            command += ["--features", self.features]
        command, environment = (self._inside if self.root else _outside)(command)
        done = subprocess.run(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE,
                              check=False)
        if done.returncode != 0:
            raise BuildFailed("cargo could not build the programs to run")
        messages = map(json.loads, done.stdout.splitlines())
        return {message["target"]["name"]: Path(message["executable"])
                for message in messages if message.get("executable")}

    def _inside(self, command):
        """The command and the environment that build in the Debian of cross.py, where there is no
        network: what cargo needs from there it fetches before."""
        fetched = subprocess.run(["cargo", "fetch", "--quiet", "--locked"], cwd=PROJECT,
                                 check=False)
        if fetched.returncode != 0:
            raise BuildFailed("cargo could not fetch the crates to build with")
        crates = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
        target = TARGET_FOLDER / self.machine.name
        target.mkdir(parents=True, exist_ok=True)
        linker = f"CARGO_TARGET_{self.machine.triple.upper().replace('-', '_')}_LINKER"
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "CARGO_HOME": str(crates),
            "CARGO_NET_OFFLINE": "true", "CARGO_TERM_COLOR": "never",
            "CARGO_TARGET_DIR": str(target), "RUSTFLAGS": STATIC, "RUSTC": "rustc",
            linker: f"{self.machine.name}-linux-gnu-gcc",
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER": "gcc",
        }
        command += ["--locked", "--manifest-path", str(PROJECT / "Cargo.toml")]
        return self.root.command(command, [PROJECT, crates]), environment


def _outside(command):
    """The command and the environment that build for the host's machine."""
    environment = {**os.environ, "CARGO_TARGET_DIR": str(TARGET_FOLDER), "RUSTFLAGS": STATIC}
    # Would be preferred over RUSTFLAGS.
    environment.pop("CARGO_ENCODED_RUSTFLAGS", None)
    return command, environment


def _only(found, name):
    if name not in found:
        raise BuildFailed(f"cargo built no program {name}")
    return found[name]
