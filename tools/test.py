"""Every check that CI runs: `make test`. Ends with a line `N passed, N failed, N skipped`.

1. the package is what the notebooks export, the notebooks are clean, the experiments carry their tag,
   text files name their encoding;
2. the training code's version is the recorded one;
3. every library notebook runs (nbdev's test runner);
4. every notebook under experiments, tests, tutorials and benchmarks runs by papermill, with the
   profile `smoke` where it has such a parameter. `raise unittest.SkipTest(why)` skips a notebook;
5. README says what the kept results say, and their tables have the columns that pages have now.

Importing torch, fastai and their like takes longer than most notebooks. So a fork server imports them once, and
library notebooks and experiments run in its copies; the rest, which starts processes of its own, in new kernels.

usage: python tools/test.py [--jobs N] [--stress SEED] [PART_OF_A_NAME ...]
"""
import argparse
import csv
import filecmp
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copy, copytree, which

ROOT = Path(__file__).resolve().parent.parent
STRESS = ("tests/fuzzed_inputs", "tests/full_disk", "tests/kill_and_resume", "tests/killed_study", "tests/million_images",
          "tests/random_kills", "tests/ray_cluster", "tests/several_processes", "tests/two_writers")
FOLDERS = ("experiments", "tests", "tutorials", "benchmarks")
BIN = Path(sys.executable).parent
IMPORTS = ["papermill", "nbdev.test", "matplotlib.pyplot", "seaborn", "pyarrow.parquet", "scipy.stats", "statsmodels.api",
           "sklearn.model_selection", "torchvision.transforms.v2", "timm", "fastai.callback.schedule", "fastai.learner"]
COPIES = multiprocessing.get_context("forkserver")


def prepare():
    "What all processes are given; and what the copies have imported, but where a GPU does not survive a fork"
    os.environ |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),  # notebooks run side by side
                   "JUPYTER_PATH": "", "JUPYTER_PREFER_ENV_PATH": "1",  # this Python's kernel
                   "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PATCHLESION_PROJECT": str(ROOT)}
    COPIES.set_forkserver_preload([] if which("nvidia-smi") else IMPORTS)


def run(command, cwd=ROOT, **variables):
    "Run a command to its end: (exit status, its whole output)"
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=os.environ | variables,
                          encoding="utf-8", errors="replace",
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout


def run_in_copy(function, *words, cwd, **variables):
    "Call a function, which returns an exit status, in a copy of the fork server: (exit status, its whole output)"
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as output:
        process = COPIES.Process(target=begin_in_copy, args=(function, words, cwd, variables, output.name))
        process.start()
        process.join()
        return process.exitcode, output.read()


def begin_in_copy(function, words, cwd, variables, output):
    with open(output, "w") as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
    os.chdir(cwd)
    os.environ.update(variables)
    sys.exit(function(*words))


def check_in_sync():
    "Export and clean in a copy: the notebooks, the modules and the copy must be equal"
    with tempfile.TemporaryDirectory() as folder:
        for name in ("nbs", "patchlesion_nb"):
            copytree(ROOT / name, Path(folder, name),
                     ignore=lambda _, names: [n for n in names if n in ("__pycache__", ".ipynb_checkpoints")])
        for name in ("settings.ini", "pyproject.toml"):
            copy(ROOT / name, folder)
        for command in ("nbdev_export", "nbdev_clean"):
            status, output = run([BIN / command], cwd=folder)
            if status:
                return f"{command} failed:\n{output}"
        wrong = [str(path.relative_to(folder)) for path in sorted(Path(folder).rglob("*"))
                 if path.suffix in (".py", ".ipynb") and not same(path, ROOT / path.relative_to(folder))]
    wrong += stale_modules()
    return f"run nbdev_export and nbdev_clean: {', '.join(wrong)}" if wrong else ""


def same(first, second):
    return second.exists() and filecmp.cmp(first, second, shallow=False)


def stale_modules():
    "Modules whose notebook is gone"
    exported = {path.stem.split("_", 1)[1] for path in (ROOT / "nbs").glob("[0-9][0-9]_*.ipynb")}
    return [f"{path.name} has no notebook" for path in (ROOT / "patchlesion_nb").glob("*.py")
            if not path.stem.startswith("_") and path.stem not in exported]


def check_notebooks():
    "Kernel name everywhere; the `parameters` tag in experiments; no output anywhere"
    wrong = []
    for path in notebooks("**/*.ipynb"):
        content = json.loads(path.read_text("utf-8"))
        tags = [tag for cell in content["cells"] for tag in cell["metadata"].get("tags", [])]
        if content["metadata"].get("kernelspec", {}).get("name") != "python3":
            wrong.append(f"{path.name}: the kernel is not python3")
        if path.parent.name == "experiments" and tags.count("parameters") != 1:
            wrong.append(f"{path.name}: not exactly one cell with the tag `parameters`")
        if path.parent.name == "experiments" and 'profile: str = \\"demo\\"' not in path.read_text("utf-8"):
            wrong.append(f"{path.name}: the default profile is not demo")
        if any(cell.get("outputs") for cell in content["cells"]):
            wrong.append(f"{path.name}: has outputs")
    return "; ".join(wrong)


def check_encodings():
    "Text files are UTF-8 whatever the locale says; what the module `json` writes is ASCII"
    calls = re.compile(r"(read|write)_text\(|\.open\([\"'][wa]")
    safe = re.compile(r"utf-8|json\.(dumps|loads)\(|\"[wa]b\"")
    wrong = [f"{path.name}: {line.strip()}" for path in (ROOT / "patchlesion_nb").glob("*.py")
             for line in path.read_text("utf-8").splitlines() if calls.search(line) and not safe.search(line)]
    return "\n".join(["no encoding is given:", *wrong]) if wrong else ""


def check_training_version():
    status, output = run([sys.executable, ROOT / "tools" / "training_version.py"])
    return output if status else ""


def check_readme():
    status, output = run([sys.executable, ROOT / "tools" / "readme.py", "--check"])
    return output if status else ""


def check_kept_columns(made):
    """Tables of kept results (reports/*/kept) have the columns of those that the experiments have just written.

    Tables for the eye leave out a column that is empty, so one may have fewer columns than the other; none has another."""
    def columns(path):
        with path.open(encoding="utf-8", newline="") as opened:
            return set(next(csv.reader(opened)))

    there = {path: made / path.parent.name / path.name for path in sorted(ROOT.glob("reports/*/kept/*/*.csv"))}
    pairs = {kept: (columns(kept), columns(now)) for kept, now in there.items() if now.is_file()}
    if not pairs:
        return "no table of kept results was compared"
    wrong = [str(kept.relative_to(ROOT)) for kept, (one, other) in pairs.items() if not (one <= other or other <= one)]
    return f"other columns than now: {', '.join(wrong)}; run `patchlesion study --keep` again" if wrong else ""


def notebooks(pattern):
    return sorted(path for path in (ROOT / "nbs").glob(pattern) if ".ipynb_checkpoints" not in path.parts)


def test_library_notebook(path):
    "Run one library notebook by nbdev's own test runner, in a process and a study root of its own"
    with tempfile.TemporaryDirectory() as root:
        status, output = run_in_copy(run_library_notebook, path, cwd=ROOT, PATCHLESION_ROOT=root)
    return ("failed", output) if status else ("passed", "")


def run_library_notebook(path):
    from nbdev.test import test_nb
    return not test_nb(path, skip_flags=["slow"])[0]


def run_experiment(path, out, parameters):
    "By papermill, in this process"
    from execnb.shell import CaptureShell
    from papermill.engines import Engine, papermill_engines
    from papermill import execute_notebook

    class Here(Engine):
        @classmethod
        def execute_managed_notebook(cls, manager, kernel_name, **_):
            shell = CaptureShell()
            for number, cell in enumerate(manager.nb.cells):
                manager.cell_start(cell, number)
                if cell.cell_type == "code":
                    shell.run(cell.source)
                    if shell.exc:
                        print(shell.prettytb(fname=path))
                        raise shell.exc
                manager.cell_complete(cell, number)

    papermill_engines.register("here", Here)
    execute_notebook(path, out, parameters, engine_name="here", progress_bar=False)


def test_papermill_notebook(path, shared_root):
    """Run one notebook by papermill from a folder that has nothing to do with the project.

    The experiments share a study root, as they do in a study: what one has trained the others find, and
    two that want the same run at once wait for each other."""
    content = json.loads(path.read_text("utf-8"))
    source = "\n".join("".join(cell["source"]) for cell in content["cells"]
                       if "parameters" in cell["metadata"].get("tags", []))
    parameters = {"profile": "smoke"} if "profile" in source else {}
    if path.parent.name == "experiments":
        parameters["output"] = str(Path(shared_root, "written", path.stem))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.ipynb")
        if path.parent.name == "experiments":
            status, output = run_in_copy(run_experiment, path, out, parameters, cwd=folder, PATCHLESION_ROOT=shared_root)
            return ("failed", output) if status else ("passed", "")
        status, output = run([sys.executable, "-m", "papermill", "--no-progress-bar", path, out,
                              *(word for item in parameters.items() for word in ("-p", *item))],
                             cwd=folder, PATCHLESION_ROOT=folder)
        outputs = [o for cell in json.loads(out.read_text("utf-8"))["cells"] for o in cell.get("outputs", [])
                   ] if out.exists() else []
    errors = [o for o in outputs if o["output_type"] == "error"]
    if errors and errors[0]["ename"] == "SkipTest":
        return "skipped", errors[0]["evalue"]
    printed = "".join(word for o in outputs if o["output_type"] == "stream" for word in o["text"])
    return ("failed", f"{output}\npapermill's exit status: {status}") if status else ("passed", printed)


def test_notebook(path, shared_root):
    "One line when it ends; returns (name, outcome, why)"
    start = time.time()
    library = path.parent.name not in FOLDERS
    outcome, why = test_library_notebook(path) if library else test_papermill_notebook(path, shared_root)
    name = str(path.relative_to(ROOT / "nbs"))
    print(f"{outcome:8} {time.time() - start:6.1f} s  {name}", flush=True)
    return name, outcome, why


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help="only notebooks whose path contains one of these")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks side by side (default 2)")
    parser.add_argument("--stress", metavar="SEED",
                        help="in full, from this seed on, what else is tried in short; prints what was counted")
    options = parser.parse_args()
    if options.stress:
        os.environ["PATCHLESION_STRESS"] = options.stress
        options.names = options.names or STRESS
    prepare()
    checks = {"in sync and clean": check_in_sync, "kernels, tags, outputs": check_notebooks,
              "encodings": check_encodings, "training version": check_training_version, "README": check_readme}
    results = [(name, "failed" if (why := check()) else "passed", why) for name, check in checks.items()]
    for name, outcome, _ in results:
        print(f"{outcome:8}           {name}", flush=True)
    paths = notebooks("*.ipynb") + [path for folder in FOLDERS for path in notebooks(f"{folder}/*.ipynb")]
    paths = [path for path in paths if not options.names or any(name in str(path) for name in options.names)]
    if not paths:
        sys.exit("No notebook matched: nothing was tested.")
    paths = sorted(paths, key=lambda path: path.parent.name not in FOLDERS)
    with tempfile.TemporaryDirectory() as shared_root, ThreadPoolExecutor(options.jobs) as pool:
        results += pool.map(lambda path: test_notebook(path, shared_root), paths)
        if not options.names:  # all experiments have written their tables
            why = check_kept_columns(Path(shared_root, "written"))
            results.append(("columns of kept results", "failed" if why else "passed", why))
    for name, outcome, why in results:
        if outcome == "failed" or options.stress and why:
            print(f"\n=== {name}\n{why[-6000:]}")
    for name, outcome, why in results:
        if outcome == "skipped":
            print(f"skipped: {name}: {why}")
    count = {o: sum(outcome == o for _, outcome, _ in results) for o in ("passed", "failed", "skipped")}
    print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    sys.exit(bool(count["failed"]))


if __name__ == "__main__":
    main()
