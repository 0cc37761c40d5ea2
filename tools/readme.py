"""Write the results in README from the committed numbers: `readme.py`, or `readme.py --check` to see if they are stale.

Between `<!-- NAME -->` and `<!-- /NAME -->` stands what this script writes, from `reports/*/kept` (`patchlesion study --keep`)."""
import json
import re
import sys
from pathlib import Path

import pandas as pd

from patchlesion_nb.profiles import PROFILES, load_profile

ROOT = Path(__file__).resolve().parent.parent


def kept(profile):
    "The folder of a profile's kept results"
    return ROOT / "reports" / profile / "kept"


def provenance(profile):
    "what -> value, of the page of Table II"
    file = next(kept(profile).glob("table_2_*/provenance.csv"))
    return pd.read_csv(file, dtype=str, keep_default_na=False, index_col="what")["value"]


FOUND = {"lowres": {"table_2_attention": [0], "table_5_balancing": [1], "extension_external_test": [0], "claims": [0]},
         "demo": {"table_2_attention": [0], "extension_controls": [0, 1]}}

LEAD = {"table_5_balancing": "Class weighting (Table V), {folds} folds: ",  # what a sentence is about, away from its page
        "claims": "All folds: "}


def found(profile):
    "What pages found, in their own words: some of their sentences, without intervals, which the pages give"
    lines, said = [], set()
    for page, chosen in FOUND[profile].items():
        sentences = json.loads((kept(profile) / page / "found.json").read_text("utf-8"))["sentences"]
        for place in chosen:
            text = sentences[place].removeprefix(f"{load_profile(profile).network_labels[0]}: ")
            text = re.sub(r" \([^()]* to [^()]*\)", "", text)
            text = text.replace("isic2018_test", "the official ISIC 2018 test set").replace("ham10000", "HAM10000")
            parts = [part for part in re.split(r"(?<=\.) (?=[A-Z])", text)
                     if part not in said and not part.startswith("Intervals: ")]
            said.update(parts)
            told = " ".join(parts)
            first = told[0].lower() if page in LEAD else told[0].upper()
            lead = LEAD.get(page, "")
            if "{folds}" in lead:  # as many as each row has
                results = pd.read_csv(kept(profile) / page / "results.csv")
                lead = lead.format(folds=results.groupby("row")["fold"].nunique().min())
            lines.append(f"- {lead}{first}{told[1:]}")
    return lines


def table_2(profile):
    "Table II: ours with its interval over lesions, of the rows that have a result"
    table = pd.read_csv(next(kept(profile).glob("table_2_*/summary.csv")))
    table = table[(table["metric"] == "mc_sensitivity") & (table["row"] != "Majority class")].dropna(subset=["mean"])
    lines = ["| row of Table II | MC-sensitivity, % (95 % interval) | published, Dense121 |", "|---|---|---|"]
    for row in table.itertuples():
        name = f"{row.row} (ours)" if row.ours else row.row
        published = "" if pd.isna(row.published) else f"{row.published:.1f}"
        lines.append(f"| {name} | {row.mean:.1f} ({row.low:.1f}–{row.high:.1f}) | {published} |")
    return lines


def status():
    "What was run, on which images, when, with which result; left out: synthetic and not run"
    lines = ["| profile | images | result |", "|---|---|---|"]
    for name in PROFILES[1:]:
        profile = load_profile(name)
        result, runs = "not run yet", len(list((ROOT / "reports" / name / "runs").glob("*/")))
        if runs:
            result = f"[{runs} run{'s' * (runs > 1)}](reports/{name}/runs) so far"
        if list(kept(name).glob("table_2_*/summary.csv")):
            facts, pages = provenance(name), len(list(kept(name).glob("*/")))
            made = f"[{pages} page{'s' * (pages > 1)}](reports/{name}/kept), {facts['page made'][:10]}, " \
                   f"{facts['code'].split(', ')[-1]}"
            result = f"{result}; {made}" if runs else made
        if result == "not run yet" and profile.data == "synthetic":
            continue
        lines.append(f"| `{name}` | {profile.dataset}, {profile.image_size[1]}x{profile.image_size[0]} | {result} |")
    return lines


def blocks():
    "The generated parts of README"
    return {"table": table_2("lowres"), "real": found("lowres"), "found": found("demo"), "status": status()}


def main():
    file = ROOT / "README.md"
    before = text = file.read_text("utf-8")
    for name, lines in blocks().items():
        new = "\n".join([f"<!-- {name} -->", *lines, f"<!-- /{name} -->"])
        text, count = re.subn(f"<!-- {name} -->.*?<!-- /{name} -->", lambda _: new, text, flags=re.S)
        if count != 1:
            sys.exit(f"README.md: expected one <!-- {name} --> ... <!-- /{name} -->")
    if "--check" in sys.argv and text != before:
        sys.exit("README.md is not what the kept results say: run python tools/readme.py, or take back a number that was "
                 "changed by hand.")
    if text != before:
        file.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
