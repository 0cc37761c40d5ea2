"""Break the library on purpose and count what the notebooks notice: `make mutate`.

Each entry of tools/mutations.toml replaces one piece of an exported cell in a copy of the project, exports the
notebook, and runs the notebook that should notice, which passes before anything is broken. A mutation that no notebook
notices is a hole in the tests.

usage: python tools/mutate.py [--jobs N] [PART_OF_A_NAME ...]
"""
import argparse
import json
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

from test import ROOT, prepare, run, run_in_copy


def mutate_notebook(path, find, replace):
    "Replace text that stands exactly once in the exported cells of a notebook"
    notebook = json.loads(path.read_text())
    exported = [cell for cell in notebook["cells"]
                if cell["cell_type"] == "code" and "".join(cell["source"]).startswith("#| export")]
    hits = [cell for cell in exported if find in "".join(cell["source"])]
    if len(hits) != 1 or "".join(hits[0]["source"]).count(find) != 1:
        raise SystemExit(f"{path.name}: {find!r} does not stand exactly once in an exported cell: "
                         "bring tools/mutations.toml up to date.")
    hits[0]["source"] = "".join(hits[0]["source"]).replace(find, replace)
    path.write_text(json.dumps(notebook))


def copy_project(folder):
    "All that a library notebook needs"
    for name in ("nbs", "patchlesion_nb"):
        copytree(ROOT / name, folder / name, ignore=ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in ("settings.ini", "pyproject.toml"):
        copy(ROOT / name, folder)


def export(path, folder):
    "In a copy of the test runner's fork server: write the module of a notebook"
    from nbdev.export import nb_export
    nb_export(path, lib_path=folder / "patchlesion_nb")


def holds(path, folder):
    "In a copy: run a notebook on the project in a folder; an exit status"
    from nbdev.test import test_nb
    sys.path.insert(0, str(folder))
    return not test_nb(path, basepath=str(folder))[0]


def passes(noticing, folder):
    "Whether a notebook passes on the project in a folder"
    path, variables = folder / "nbs" / f"{noticing}.ipynb", {"PATCHLESION_ROOT": str(folder / "study")}
    variables |= {name: str(folder) for name in ("PYTHONPATH", "PATCHLESION_PROJECT")}
    if path.parent.name == "tests":  # starts processes of its own
        command = [sys.executable, "-m", "papermill", "--no-progress-bar", path, folder / "out.ipynb"]
        return run(command, cwd=folder, **variables)[0] == 0
    return run_in_copy(holds, path, folder, cwd=folder, **variables)[0] == 0


def passes_unbroken(noticing):
    "Whether a notebook passes before anything is broken: else it notices nothing"
    with tempfile.TemporaryDirectory() as name:
        copy_project(Path(name))
        passed = passes(noticing, Path(name))
    print(f"{'passes' if passed else 'FAILS':7} {noticing}, nothing broken", flush=True)
    return passed


def noticed_by(mutation):
    return mutation.get("caught_by", mutation["notebook"])


def is_caught(mutation):
    "True when the notebook that should notice fails"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_project(folder)
        changed = folder / "nbs" / f"{mutation['notebook']}.ipynb"
        mutate_notebook(changed, mutation["find"], mutation["replace"])
        status, output = run_in_copy(export, changed, folder, cwd=folder)
        if status:
            raise SystemExit(f"{mutation['name']}: export failed\n{output}")
        caught = not passes(noticed_by(mutation), folder)
    print(f"{'caught' if caught else 'MISSED':7} {mutation['name']}", flush=True)
    return caught


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help="only mutations whose name contains one of these")
    parser.add_argument("--jobs", type=int, default=2, help="mutations side by side (default 2)")
    options = parser.parse_args()
    mutations = tomllib.loads((ROOT / "tools" / "mutations.toml").read_text())["mutation"]
    chosen = [m for m in mutations if not options.names or any(part in m["name"] for part in options.names)]
    if not chosen:
        sys.exit("No mutation matched.")
    prepare()
    with ThreadPoolExecutor(options.jobs) as pool:
        unbroken = list(pool.map(passes_unbroken, sorted({noticed_by(mutation) for mutation in chosen})))
        caught = list(pool.map(is_caught, chosen))
    print(f"{sum(unbroken)} of {len(unbroken)} notebooks pass unbroken, {sum(caught)} of {len(caught)} mutations caught")
    sys.exit(not all(unbroken + caught))


if __name__ == "__main__":
    main()
