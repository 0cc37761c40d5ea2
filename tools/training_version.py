#!/usr/bin/env python3
"""The guard of the training code's version.

    python tools/training_version.py             check: does the record stand for the code at hand?
    python tools/training_version.py --raise     results may differ: a new version, new run ids
    python tools/training_version.py --neutral   results cannot differ: prove it, and record that

The proof of `--neutral`: the last committed code, which must be on record, and the code at hand
each train the golden run (`patchlesion_nb.training.golden_run`), and every file of weights and
every history must be equal to the last bit. The record is resources/training_version.json.
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
COMPARED = ("*.safetensors", "history.csv")
DIGEST = "from patchlesion_nb.runs import training_digest; print(training_digest())"
GOLDEN = "import sys; from patchlesion_nb.training import golden_run; golden_run(sys.argv[1])"
WHERE = "import patchlesion_nb; print(patchlesion_nb.__file__)"


def python(tree, code, *arguments):
    "Run Python code with the package of a source tree; return what it prints"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"python failed in {tree}: see above")
    return done.stdout.strip()


def digest(tree):
    "The training digest of a source tree, after making sure that it is this tree that is imported"
    imported = Path(python(tree, WHERE)).resolve()
    if not imported.is_relative_to(Path(tree).resolve()):
        raise SystemExit(f"{tree} was asked for its digest, but {imported} was imported")
    return python(tree, DIGEST).split()[-1]


def committed(folder):
    "Unpack the last commit into a folder"
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True)
    if archive.returncode:
        raise SystemExit(f"nothing committed to compare with: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def golden(tree, folder):
    "Train the golden run with a source tree; its weights and histories by relative path"
    folder.mkdir()
    python(tree, GOLDEN, folder)
    paths = [path for pattern in COMPARED for path in folder.rglob(pattern)]
    if not paths:
        raise SystemExit(f"the golden run of {tree} wrote neither weights nor history")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def on_record(record, found):
    "Whether a digest is the version's own or that of a neutral change"
    return found in (record["digest"], *record["neutral"])


def save(record):
    "Write the record"
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def raise_version(record, found):
    "A new version; the first digest of a version that has none yet is recorded as it is"
    version = record["version"] + bool(record["digest"])
    save({"version": version, "digest": found, "neutral": []})
    print(f"training version {version}, digest {found[:12]}")


def record_neutral(record, found):
    "Record the code at hand as neutral if it trains to the same bits as the last commit"
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        before_tree = committed(scratch / "committed")
        if not on_record(record, digest(before_tree)):
            raise SystemExit("the last commit is not on record itself, so being equal to it proves "
                             "nothing: --raise")
        before = golden(before_tree, scratch / "before")
        after = golden(ROOT, scratch / "after")
    different = [name for name in sorted(before | after) if before.get(name) != after.get(name)]
    if different:
        raise SystemExit(f"not neutral, {len(different)} of {len(before | after)} files differ: "
                         f"{', '.join(different)}. The version must be raised: --raise")
    save(record | {"neutral": [*record["neutral"], found]})
    print(f"neutral: {len(before)} files equal to the last bit, digest {found[:12]} recorded")


def check(record, found):
    "Refuse code that is not on record, with the package's own words"
    sys.path.insert(0, str(ROOT))
    from patchlesion_nb.runs import check_training_version

    try:
        check_training_version(found, record)
    except RuntimeError as error:
        raise SystemExit(error) from error


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--raise", dest="raised", action="store_true", help="record a new version")
    choice.add_argument("--neutral", action="store_true", help="prove and record a neutral change")
    arguments = parser.parse_args()
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    found = digest(ROOT)
    if on_record(record, found):
        print(f"training version {record['version']} stands for the code at hand: nothing to do")
    elif arguments.raised:
        raise_version(record, found)
    elif arguments.neutral:
        record_neutral(record, found)
    else:
        check(record, found)


if __name__ == "__main__":
    main()
