#!/usr/bin/env python3
"""The versions of the code that trains and of the code that evaluates.

    python tools/training_version.py             check: does the record stand for the code at hand?
    python tools/training_version.py --raise     results may differ: a new version, new ids
    python tools/training_version.py --neutral   results cannot differ: prove it, and record that

Until one of the two is done, results bear a digest of the code instead of a version, and those of
other code are not shown (`patchlesion_nb.runs`, "The code").

The proof of `--neutral`: the last committed code, which must be on record, and the code at hand
each train the golden run (`tools/golden_run.py`) and evaluate it; every file of
weights, every history and every evaluation must be equal to the last bit, and so must what the
golden run does not reach: rounds of a split, and the weights of each class and type of diagnosis.
The record is resources/training_version.json.
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "patchlesion_nb" / "resources" / "training_version.json"
COMPARED = ("*.safetensors", "history.csv", "*.parquet", "*.txt")
AT_HAND = """
import json
from patchlesion_nb.runs import CODE_PATHS, code_digest
print(json.dumps({kind: code_digest(entries) for kind, entries in CODE_PATHS.items()}))
"""
GOLDEN = (ROOT / "tools" / "golden_run.py").read_text("utf-8")
WHERE = "import patchlesion_nb; print(patchlesion_nb.__file__)"


def python(tree, code, *arguments):
    "Run Python code with the package of a source tree; return what it prints"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"python failed in {tree}: see above")
    return done.stdout.strip()


def digests(tree):
    "The digest of each kind of code, after making sure that it is this tree that is imported"
    imported = Path(python(tree, WHERE)).resolve()
    if not imported.is_relative_to(Path(tree).resolve()):
        raise SystemExit(f"{tree} was asked for its digests, but {imported} was imported")
    return json.loads(python(tree, AT_HAND).splitlines()[-1])


def committed(folder):
    "Unpack the last commit into a folder"
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True)
    if archive.returncode:
        raise SystemExit(f"nothing committed to compare with: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def golden(tree, folder):
    "Make the golden run with a source tree; what it is compared by, by relative path"
    folder.mkdir()
    python(tree, GOLDEN, folder)
    paths = [path for pattern in COMPARED for path in folder.rglob(pattern)]
    if not paths:
        raise SystemExit(f"the golden run of {tree} wrote nothing to compare")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def off_record(record, found):
    "The kinds of code for which the record does not stand"
    return [kind for kind, digest in found.items()
            if digest not in (record[kind]["digest"], *record[kind]["neutral"])]


def save(record):
    "Write the record, and tell it"
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for kind, entry in record.items():
        known = [entry["digest"], *entry["neutral"]]
        print(f"{kind} version {entry['version']}: {', '.join(digest[:12] for digest in known)}")


def raise_versions(record, found, changed):
    "A new version of each kind of code that changed"
    for kind in changed:
        version = record[kind]["version"] + 1
        record[kind] = {"version": version, "digest": found[kind], "neutral": []}
    save(record)


def record_neutral(record, found, changed):
    "Record the code at hand as neutral if it gives the same bits as the last commit"
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        before_tree = committed(scratch / "committed")
        if off_record(record, digests(before_tree)):
            raise SystemExit("the last commit is not on record itself, so being equal to it proves "
                             "nothing: --raise")
        before = golden(before_tree, scratch / "before")
        after = golden(ROOT, scratch / "after")
    different = [name for name in sorted(before | after) if before.get(name) != after.get(name)]
    if different:
        raise SystemExit(f"not neutral, {len(different)} of {len(before | after)} files differ: "
                         f"{', '.join(different)}. The version must be raised: --raise")
    print(f"neutral: {len(before)} files equal to the last bit")
    for kind in changed:
        record[kind]["neutral"].append(found[kind])
    save(record)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--raise", dest="raised", action="store_true", help="record new versions")
    choice.add_argument("--neutral", action="store_true", help="prove and record a neutral change")
    arguments = parser.parse_args()
    record, found = json.loads(RECORD.read_text(encoding="utf-8")), digests(ROOT)
    changed = off_record(record, found)
    if not changed:
        print("the recorded versions stand for the code at hand: nothing to do")
    elif arguments.raised:
        raise_versions(record, found, changed)
    elif arguments.neutral:
        record_neutral(record, found, changed)
    else:
        raise SystemExit(
            f"the code of {' and '.join(changed)} has changed since its version was recorded. If "
            "results may differ: python tools/training_version.py --raise. If they cannot: commit "
            "what stands, then python tools/training_version.py --neutral, which makes a tiny run "
            "with both and compares the bits")


if __name__ == "__main__":
    main()
