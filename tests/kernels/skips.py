"""The pinned numbers of skipped tests, so that a test cannot vanish quietly.

A test that a kernel cannot run is skipped there for good reasons, and a test that is skipped
everywhere by mistake looks the same. So `skips.tsv` holds the number for each kernel, user and test
program, and a run that counts another number fails. A row that is absent is not checked, only told.
"""

SKIPS_HEAD = "# Tests that are skipped on each kernel. `run --update-skips` rewrites this.\n" \
             "# series\tuser\ttest\tskipped\n"


def read(machine):
    """The numbers by (series, user, test)."""
    lines = machine.skips.read_text().splitlines()
    rows = [line.split("\t") for line in lines if line[:1] not in ("", "#")]
    return {(series, user, test): int(count) for series, user, test, count in rows}


def check(result, pinned):
    """What to say of one kernel: (problems, notes)."""
    problems, notes = [], []
    for key, now in _counts(result).items():
        was = pinned.get(key)
        where = f"{key[2]} as {key[1]}"
        if was is None:
            notes.append(f"skips not pinned: {where}, is {now}")
        elif was != now:
            problems.append(f"skips changed: {where}, was {was}, is {now}")
    return problems, notes


def update(machine, results, pinned):
    """Rewrites the rows of those kernels that gave a whole result."""
    rows = dict(pinned)
    for result in results:
        rows.update(_counts(result))
    order = sorted(rows, key=lambda key: ([int(n) for n in key[0].split(".")], *key[1:]))
    lines = ["\t".join([*key, str(rows[key])]) + "\n" for key in order]
    machine.skips.write_text(SKIPS_HEAD + "".join(lines))


def _counts(result):
    return {(result.package.series, run.user, run.program): run.skipped
            for run in result.passes if run.libtest and not run.problem}
