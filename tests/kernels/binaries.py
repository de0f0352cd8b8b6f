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
TARGET = "x86_64-unknown-linux-gnu"


class BuildFailed(Exception):
    """Cargo failed (and has said why), or built something unexpected."""


def build(tests, examples, test_arguments, features):
    """Builds integration tests and examples; `examples` are (name, arguments) pairs."""
    programs = []
    if tests:
        names = [word for name in tests for word in ("--test", name)]
        found = _cargo(["test", "--no-run", *names], features)
        programs += [Program(name, _only(found, name), tuple(test_arguments)) for name in tests]
    if examples:
        names = [word for name, _ in examples for word in ("--example", name)]
        found = _cargo(["build", *names], features)
        programs += [Program(name, _only(found, name), tuple(arguments), libtest=False)
                     for name, arguments in examples]
    return programs


def _cargo(command, features):
    """Runs cargo and gives the programs that it built, by the name of their target."""
    environment = {**os.environ, "CARGO_TARGET_DIR": str(TARGET_FOLDER),
                   "RUSTFLAGS": "-C target-feature=+crt-static"}
    # Would be preferred over RUSTFLAGS.
    environment.pop("CARGO_ENCODED_RUSTFLAGS", None)
    command = ["cargo", *command, "--release", "--package", "annulus", "--target", TARGET,
               "--message-format", "json-render-diagnostics"]
    if features:
        command += ["--features", features]
    done = subprocess.run(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE,
                          check=False)
    if done.returncode != 0:
        raise BuildFailed("cargo could not build the programs to run")
    messages = map(json.loads, done.stdout.splitlines())
    return {message["target"]["name"]: Path(message["executable"])
            for message in messages if message.get("executable")}


def _only(found, name):
    if name not in found:
        raise BuildFailed(f"cargo built no program {name}")
    return found[name]
