"""A program of tests, of which some are run, one after the other, and watched.

    run({test: seconds}) ─► its lines, as they come ─► the test that failed, or that says nothing
"""

import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time

# How long a program may say nothing: so long, and so often the time that its test takes.
PATIENCE_SECONDS, PATIENCE_TIMES = 12, 4
# How libtest says that a test begins, and that it is over.
BEGIN = re.compile(r"^test +(?:\[\S+\] +)?(\S+)(?: - should panic)? +\.\.\. ")
OVER = re.compile(r"\b(ok|ignored|FAILED)$")


class Program:
    """A program of tests."""

    def __init__(self, label, path, cwd, more, patient=False):
        self.label, self.path, self.cwd = label, path, cwd
        self.more, self.patient, self.names = more, patient, None

    def tests(self):
        """The names of its tests."""
        def names(*words):
            done = subprocess.run([self.path, "--list", *words], cwd=self.cwd, text=True,
                                  capture_output=True, check=True)
            return re.findall(r"^(?:\[\S+\] )?(.*): test$", done.stdout, re.MULTILINE)

        ignored = set(names("--ignored"))
        return [name for name in names() if name not in ignored or self.label.endswith("kernel")]

    def run(self, tests, more):
        """Runs some tests, one after the other, each of which takes so many seconds. Gives nothing
        if all pass, or else the test that did not, and why."""
        folder = tempfile.mkdtemp(prefix="annulus-mutant-")
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith(("ANNULUS", "LIVES", "CARGO"))}
        environment.update(self.more, **more, TMPDIR=folder, RUST_BACKTRACE="0")
        environment.update(CARGO_MANIFEST_DIR=str(self.cwd))
        command = [self.path, "--exact", "--test-threads=1", *self.choice(tests)]
        process = subprocess.Popen(command, cwd=self.cwd, env=environment, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        try:
            return self.watch(process, tests)
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
            process.stdout.close()
            shutil.rmtree(folder, ignore_errors=True)

    def choice(self, tests):
        """The words that choose these tests. libtest-mimic, which `kernel` uses, takes one name."""
        if len(tests) == 1 or not self.label.endswith("kernel"):
            return list(tests)
        self.names = self.names or self.tests()
        return [f"--skip={name}" for name in self.names if name not in tests]

    def watch(self, process, tests):
        """Reads what a program says, until it ends, or a test fails, or nothing happens."""
        patience = PATIENCE_SECONDS + PATIENCE_TIMES * max(tests.values())
        patience *= 4 if self.patient else 1
        os.set_blocking(process.stdout.fileno(), False)
        last, text, begun, result = time.monotonic(), "", "?", False
        waiting = select.poll()
        waiting.register(process.stdout, select.POLLIN)
        while True:
            ended = process.poll() is not None
            waiting.poll(0 if ended else 100)
            piece = process.stdout.read(1 << 16)
            *lines, text = (text + (piece or b"").decode(errors="replace")).split("\n")
            text = text[-4096:]
            for line in [*lines, text]:
                begin = BEGIN.match(line)
                begun = begin[1] if begin else begun
                if line.endswith("FAILED") and line is not text:
                    return begun, "failed"
                last = time.monotonic() if OVER.search(line) else last
                result = result or line.startswith("test result: ok")
            if ended and not piece:
                break
            if time.monotonic() - last > patience:
                return begun, "hang"
        if process.returncode == 0 and result:
            return None
        return begun, f"ended with {process.returncode}"
