"""Tries the register of mutations (tests/mutations.toml): does each one make its test fail?

    tests/mutations.py [ID...]        those of the given cases, e.g. B3 M4; without any, all

The tracked files are copied into the target folder. There one mutation at a time is written, its test built and run,
and the file restored. A mutation is killed when the program still compiles and the test fails; everything else is a
finding, and the exit code is 1. First the tests must pass on the unchanged copy.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
# A test that hangs has noticed; its own time limits are far below.
PATIENCE = 180


def main(wanted: list[str]) -> int:
    rows = tomllib.loads((ROOT / "tests/mutations.toml").read_text())["mutation"]
    unknown = set(wanted) - {case for row in rows for case in row["ids"]}
    if unknown:
        print("no mutation is registered for", *sorted(unknown), file=sys.stderr)
        return 2
    rows = [row for row in rows if not wanted or set(row["ids"]) & set(wanted)]
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "mutations"
    tree = Tree(target / "tree", target / "build")

    for test in dict.fromkeys(row["test"] for row in rows):
        outcome = tree.run(test)
        if outcome != "passed":
            print(f"{test}: {outcome} on the unchanged copy; a mutation would prove nothing", file=sys.stderr)
            return 1
    survivors = 0
    for row in rows:
        outcome = tree.run_mutated(row)
        survivors += outcome != "killed"
        print(f"{' '.join(row['ids']):<16} {row['test']:<70} {outcome}", flush=True)
    print(f"{len(rows) - survivors} of {len(rows)} killed")
    return 1 if survivors else 0


class Tree:
    """A copy of the tracked files with a build folder of its own."""

    def __init__(self, folder: pathlib.Path, build: pathlib.Path):
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
        )
        names = {name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()}
        for path in folder.rglob("*"):
            if path.is_file() and str(path.relative_to(folder)) not in names:
                path.unlink()
        for name in names:
            # Only what differs: cargo builds again whatever is newer.
            source, copy = ROOT / name, folder / name
            if not copy.is_file() or copy.read_bytes() != source.read_bytes():
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(source.read_bytes())
        # No debug information, so that a build takes seconds; CI, so that no test skips for want of vectors.
        self.environment = os.environ | {"CARGO_TARGET_DIR": str(build), "CARGO_PROFILE_DEV_DEBUG": "0", "CI": "true"}

    def run_mutated(self, row: dict) -> str:
        path = self.folder / row["file"]
        text = path.read_text()
        if text.count(row["find"]) != 1:
            return "finds no place, or more than one"
        path.write_text(text.replace(row["find"], row["replace"]))
        try:
            outcome = self.run(row["test"])
        finally:
            path.write_text(text)
        return {"passed": "SURVIVED", "failed": "killed"}.get(outcome, outcome)

    def run(self, test: str) -> str:
        file = self.file_of(test)
        binary = ["--lib"] if file.startswith("src/") else ["--test", file.split("/")[1].removesuffix(".rs")]
        command = ["cargo", "test", "--locked", "--no-run", "--message-format=json-render-diagnostics", *binary]
        built = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        if built.returncode != 0:
            return "does not compile\n" + built.stderr
        messages = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
        program = [m["executable"] for m in messages if m.get("executable") and m["profile"]["test"]][-1]

        listed = subprocess.run([program, "--list", "--format=terse"], cwd=self.folder, capture_output=True, text=True, check=True)
        names = [line.removesuffix(": test") for line in listed.stdout.splitlines()]
        names = [name for name in names if name.split("::")[-1] == test]
        if len(names) != 1:
            return f"is there {len(names)} times"
        # The test itself runs in a process of its own, as with nextest; what it starts ends with it.
        command = [program, "--exact", names[0]]
        try:
            ran = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return "failed"
        if os.environ.get("SHOW_FAILURES"):
            print(ran.stdout, ran.stderr, file=sys.stderr)
        return "passed" if ran.returncode == 0 else "failed"

    def file_of(self, test: str) -> str:
        for path in [*self.folder.glob("src/**/*.rs"), *self.folder.glob("tests/**/*.rs")]:
            if re.search(rf"\bfn {test}\(", path.read_text()):
                return str(path.relative_to(self.folder))
        sys.exit(f"no test is called {test}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
