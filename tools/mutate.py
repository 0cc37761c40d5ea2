"""Break the library on purpose and count what the notebooks notice: `make mutate`.

Each entry of tools/mutations.toml replaces one piece of an exported cell in a copy of the project, exports the
notebook, and runs the notebook that should notice. A mutation that no notebook notices is a hole in the tests.

usage: python tools/mutate.py [--jobs N] [PART_OF_A_NAME ...]
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

ROOT = Path(__file__).resolve().parent.parent


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


def run(code, folder):
    "Run Python code on the copied project"
    environment = {**os.environ, "PYTHONPATH": str(folder), "PATCHLESION_ROOT": str(folder / "study"),
                   "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def is_caught(mutation):
    "True when the notebook that should notice fails"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_project(folder)
        mutate_notebook(folder / "nbs" / f"{mutation['notebook']}.ipynb", mutation["find"], mutation["replace"])
        export = run("from nbdev.export import nb_export; "
                     f"nb_export('nbs/{mutation['notebook']}.ipynb', lib_path='patchlesion_nb')", folder)
        if export.returncode:
            raise SystemExit(f"{mutation['name']}: export failed\n{export.stdout}")
        noticing = folder / "nbs" / f"{mutation.get('caught_by', mutation['notebook'])}.ipynb"
        tested = run("import sys; from pathlib import Path; from nbdev.test import test_nb; "
                     f"sys.exit(not test_nb(Path({str(noticing)!r}), basepath={str(folder)!r})[0])", folder)
    caught = tested.returncode != 0
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
    with ThreadPoolExecutor(options.jobs) as pool:
        caught = list(pool.map(is_caught, chosen))
    print(f"{sum(caught)} of {len(caught)} mutations caught")
    sys.exit(not all(caught))


if __name__ == "__main__":
    main()
