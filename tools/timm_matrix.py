"""Patch attention after every stage of every network of timm: `reports/timm/matrix.csv`.

Each network is built without weights for four classes, and given two images of three crops, as small as it takes.
Blocks are placed after its stages (`network_stages`), all at once, and in halves where that fails. What must hold:

- weights of one leave the network's output as it was, to a millionth of it, and are recorded for each image;
- other weights of one crop leave the outputs of other crops as they were;
- in training, gradients reach each block and the network's first layer.

A stage `works`, or is `refused` in the library's own words; anything else is a `fault`. `without_effect` names stages
after which weights of a half change no output by a thousandth: a normalisation of each crop follows and undoes them,
or the signal fades in a network that is not trained; the column does not tell which. What the network
cannot do without blocks, or not within the limits, is `not tried`.

Each network has a process of its own on one thread: a copy of a server that has imported torch and timm. Small ones
come first, as names tell: one of each of timm's modules, one of each first word of a name, then the rest; then so do
large ones. Begun again, it goes on with those that are `not yet` tried; names that contain a PART are tried again.

usage: python tools/timm_matrix.py [--jobs N] [--only PART ...] [--limit-seconds 60] [--limit-gib 6] [--minutes N]
"""
import argparse
import copy
import multiprocessing
import os
import re
import signal
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pandas as pd

MATRIX = Path(__file__).resolve().parent.parent / "reports" / "timm" / "matrix.csv"
VERSIONS = MATRIX.with_name("versions.csv")
COLUMNS = ["network", "module", "parameters", "pixels", "stages", "works", "refused", "faults", "result",
           "difference", "seconds", "without_effect", "reason"]
CLASSES, IMAGES, CROPS = 4, 2, 3
SIDES = (32, 64, 96, 128, 160, 192, 224, 256)  # pixels that are tried before the network's own
LOGITS = (100.0, 0.0, 0.0)  # of one image's crops: weights of 1, 1/2 and 1/2
EQUAL, EFFECT = 1e-6, 1e-3  # of the largest output: as it was; changed
SIZES = ("test atto zepto femto pico micro nano xxs xxtiny xtiny tiny mini xs xxsmall xsmall small lite s medium base m "
         "b l large xlarge xl huge giant enormous gigantic").split()
NOT_YET = "not yet"
IMPORTS = ["torch", "timm", "patchlesion_nb.attention"]  # what the server has imported
COPIES = multiprocessing.get_context("forkserver")


class NetworkFails(Exception):
    "Without any block"


def create(name, side):
    "A network for a few classes, what starts at zero near it, so that gradients pass; whether its size is fixed"
    import timm
    import torch

    torch.manual_seed(0)
    try:
        network, fixed = timm.create_model(name, num_classes=CLASSES, img_size=side), True
    except TypeError:
        network, fixed = timm.create_model(name, num_classes=CLASSES), False
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    return network.eval(), fixed


def tensor_of(output):
    "The logits, where a network returns them among others"
    while not hasattr(output, "shape"):
        output = next(iter(output.values() if isinstance(output, dict) else output))
    return output


def smallest(name):
    "A network, crops of the smallest size that it takes, and its outputs"
    import timm
    import torch

    own = getattr(timm.get_pretrained_cfg(name), "input_size", None) or (3, SIDES[-1], SIDES[-1])
    network, fixed, failure = None, True, "its outputs are not finite"
    for side in (*SIDES, own[-1]):
        crops = torch.rand(IMAGES * CROPS, own[0], side, side, generator=torch.Generator().manual_seed(0))
        try:
            if fixed:
                network, fixed = create(name, side)
            with torch.no_grad():
                plain = tensor_of(network(crops))
            if len(plain) == len(crops) and plain.isfinite().all() and plain.any():
                return network, crops, plain
        except Exception as error:
            if out_of_memory(error):
                raise
            failure = words(error)
    raise NetworkFails(f"the network itself fails: {failure}")


def train_pass(network, crops):
    "A pass forward and backward in training, which must reach the layer that is called first"
    import torch

    called = []
    for layer in network.modules():
        if not list(layer.children()) and list(layer.parameters()):
            layer.register_forward_pre_hook(lambda layer, inputs: called.append(layer))
    torch.manual_seed(0)
    output = tensor_of(network.train()(crops))
    (output * torch.randn(output.shape)).sum().backward()
    assert has_gradient(called[0]), "no gradient reaches the network's first layer"


def has_gradient(layer):
    gradients = [parameter.grad for parameter in layer.parameters()]
    return any(grad is not None and grad.isfinite().all() and grad.any() for grad in gradients)


def check(network, stages, crops, plain):
    """Blocks after some stages of a copy do what they should, or an error.

    Returns the stages without effect, and how far outputs are from what they were under weights of one."""
    import torch
    from patchlesion_nb.attention import place_attention, record_attention

    network, blocks = copy.deepcopy(network), {}
    for stage in sorted(stages, key=lambda stage: -stage.count(".")):  # what is inside another first
        place_attention(network, stage, CROPS)
        blocks[stage] = network.get_submodule(stage).attention
    largest, no_effect = plain.abs().max(), []
    with torch.no_grad():
        for block in blocks.values():
            block.linear.weight.zero_()
            block.linear.bias.fill_(LOGITS[0])
        with record_attention(network) as recorded:
            difference = ((tensor_of(network(crops)) - plain).abs().max() / largest).item()
        assert difference <= EQUAL, f"weights of one change the output by {difference:.1e} of it"
        assert all(weights.tolist() == [[1.0] * CROPS] * IMAGES for weights in recorded.values())
        for stage, block in blocks.items():
            block.linear.bias.copy_(torch.tensor(LOGITS))
            change = (tensor_of(network(crops)) - plain).abs().flatten(1).amax(1) / largest
            change = change.reshape(IMAGES, CROPS)
            assert change[:, 0].max() <= EQUAL, "the weight of a crop changes the output of another"
            if change[:, 1:].max() < EFFECT:
                no_effect.append(stage)
            block.linear.bias.fill_(LOGITS[0])
    for block in blocks.values():
        block.linear.reset_parameters()
    train_pass(network, crops)
    missed = [stage for stage, block in blocks.items() if not has_gradient(block.linear)]
    assert not set(missed) - set(no_effect), f"no gradient reaches the block after {', '.join(missed)}"
    return no_effect, difference


def words(error):
    "An error in one line"
    said = " ".join(str(error).split())
    return (said if was_refused(error) else f"{type(error).__name__}: {said}")[:300]


def was_refused(error):
    "Whether it is the library that refuses, in its own words"
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, ValueError) and Path(frames[-1].filename).parts[-2:] == ("patchlesion_nb", "attention.py")


def out_of_memory(error):
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "bad_alloc" in str(error)


def attempt(network, stages, crops, plain):
    "What becomes of blocks after these stages: works, refused or fault, and in which words"
    try:
        no_effect, difference = check(network, stages, crops, plain)
        return dict(kind="works", stages=stages, no_effect=no_effect, difference=difference, reason="")
    except Exception as error:
        if out_of_memory(error):
            raise
        kind = "refused" if was_refused(error) else "faults"
        reason = words(error).replace(f"'{stages[0]}.attention'", "'*.attention'")
        return dict(kind=kind, stages=stages, no_effect=[], difference=0, reason=reason)


def attempts(network, stages, crops, plain):
    "All at once, and in halves what does not work"
    one = attempt(network, stages, crops, plain)
    if one["kind"] == "works" or len(stages) == 1:
        return [one]
    half = len(stages) // 2
    halves = [*attempts(network, stages[:half], crops, plain), *attempts(network, stages[half:], crops, plain)]
    return [one] if all(part["kind"] == "works" for part in halves) else halves


def examine(name, tell=lambda found: None):
    "What becomes of blocks after the stages of one network; part of that is told as soon as it is known"
    from patchlesion_nb.attention import network_stages

    network, crops, plain = smallest(name)
    stages = network_stages(network)
    tell(dict(parameters=sum(parameter.numel() for parameter in network.parameters()),
              pixels=crops.shape[-1], stages=len(stages)))
    found = attempts(network, stages, crops, plain)
    if any(one["kind"] == "faults" for one in found):
        try:
            train_pass(copy.deepcopy(network), crops)
        except Exception as error:
            raise NetworkFails(f"the network itself fails in training: {words(error)}") from error
    return outcome(found)


def outcome(found):
    "A row's columns for the attempts at one network"
    count, reasons = dict(works=0, refused=0, faults=0), {}
    for one in found:
        count[one["kind"]] += len(one["stages"])
        reasons.setdefault(one["reason"], []).extend(one["stages"])
    reasons.pop("", None)
    kinds = [kind for kind, stages in count.items() if stages]
    result = "fault" if count["faults"] else kinds[0] if len(kinds) == 1 else "works in part"
    return count | dict(
        result=result, difference=f"{max(one['difference'] for one in found):.0e}",
        without_effect=" ".join(stage for one in found for stage in one["no_effect"]),
        reason=" | ".join(f"{' '.join(stages)}: {reason}" for reason, stages in reasons.items()))


def examine_here(name, sender, seconds, gib):
    "In a process of its own: silent, within its limits, on one thread"
    import resource
    import torch

    for number in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    resource.setrlimit(resource.RLIMIT_DATA, (int(gib * 2**30),) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
    torch.set_num_threads(1)
    try:
        found = examine(name, sender.send)
    except NetworkFails as error:
        found = dict(result="not tried", reason=str(error))
    except Exception as error:
        if not out_of_memory(error):
            raise
        found = dict(result="not tried", reason=f"needs more than {gib:g} GiB of memory")
    sender.send(found | dict(seconds=round(time.process_time(), 1)))


def judge(name, seconds=60, gib=6):
    "One network within its limits, the time being a processor's: a row of the matrix"
    receiver, sender = COPIES.Pipe(duplex=False)
    process = COPIES.Process(target=examine_here, args=(name, sender, seconds, gib))
    process.start()
    sender.close()
    found = dict(network=name)
    end = time.time() + 20 * seconds  # by the clock: one that waits for something uses no processor
    try:
        while "result" not in found and receiver.poll(max(0, end - time.time())):
            found |= receiver.recv()
    except EOFError:
        process.join()
    status = process.exitcode
    process.kill()
    process.join()
    if "result" not in found:
        late = {None: f"no result after {20 * seconds:g} s by the clock",
                -signal.SIGXCPU: f"takes more than {seconds:g} s of a processor"}.get(status)
        result = "not tried" if late or "stages" not in found else "fault"
        where = "with blocks" if "stages" in found else "without blocks"
        found |= dict(result=result, reason=f"{late or f'exit status {status}'}, {where}")
    return found


def list_all(sender):
    import timm

    sender.send([dict(network=name, module=timm.model_entrypoint(name).__module__.rpartition(".")[2],
                      result="not tried", reason=NOT_YET) for name in timm.list_models()])


def begin():
    "A matrix of all networks, none tried yet"
    receiver, sender = COPIES.Pipe(duplex=False)
    process = COPIES.Process(target=list_all, args=(sender,))
    process.start()
    sender.close()
    rows = pd.DataFrame(receiver.recv(), columns=COLUMNS)
    process.join()
    MATRIX.parent.mkdir(parents=True, exist_ok=True)
    installed().to_csv(VERSIONS, index=False)
    save(rows)


def installed():
    return pd.DataFrame([[name, version(name)] for name in ("timm", "torch")], columns=["package", "version"])


def read():
    "The matrix, all of it text"
    return pd.read_csv(MATRIX, dtype=str, keep_default_na=False)


def save(rows):
    written = MATRIX.with_suffix(".new")
    rows.to_csv(written, index=False)
    written.replace(MATRIX)


def in_order(rows):
    "Small before large, as names tell; of these, one of each module first, then of each first word, then the rest"
    def size(name):
        word = min((SIZES.index(word) for word in re.split(r"[_\d]+", name) if word in SIZES), default=SIZES.index("s"))
        return word * 1000 + min(999, int(re.search(r"\d+|$", name)[0] or 0))

    rows = rows.assign(size=rows["network"].map(size), word=rows["network"].str.extract("^([a-z]*)")[0])
    rows = rows.sort_values("size", kind="stable")
    rank = rows.duplicated("module").astype(int) + rows.duplicated(["module", "word"])
    large = rows["size"] >= SIZES.index("medium") * 1000
    return rows.assign(large=large, rank=rank).sort_values(["large", "rank", "size"], kind="stable")["network"]


def summary(rows):
    "How many networks and stages have which result, and why"
    reasons = rows["reason"].str.replace(r"'[^']*'|\[[^\]]*\]|\d+", "#", regex=True)
    reasons = reasons.str.replace(r"^[^:|]*: (?=an |the |this |a )", "", regex=True).str[:110]
    stages = rows[["stages", "works", "refused", "faults"]].apply(pd.to_numeric).sum().astype(int)
    counts = rows.groupby(["result", reasons]).size()
    minutes = pd.to_numeric(rows["seconds"]).sum() / 60
    return "\n".join([counts.to_string(), stages.to_string(), f"{minutes:.0f} minutes"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="networks side by side (default 1)")
    parser.add_argument("--only", nargs="+", metavar="PART", help="networks whose name contains one of these, again")
    parser.add_argument("--limit-seconds", type=float, default=60,
                        help="of a processor for one network (default 60)")
    parser.add_argument("--limit-gib", type=float, default=6, help="of memory for one network (default 6)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no network after these")
    options = parser.parse_args()
    COPIES.set_forkserver_preload(IMPORTS)
    start = time.time()
    if not MATRIX.exists():
        begin()
    rows = read().set_index("network", drop=False)
    kept = pd.read_csv(VERSIONS, dtype=str).values.tolist()
    if kept != installed().values.tolist():
        raise SystemExit(f"{MATRIX} is of other versions ({kept}): move it away to begin anew")
    asked = rows["reason"] == NOT_YET
    if options.only:
        asked = rows["network"].map(lambda name: any(part in name for part in options.only))

    def one(name):
        if time.time() - start < options.minutes * 60:
            return judge(name, options.limit_seconds, options.limit_gib)

    with ThreadPoolExecutor(options.jobs) as pool:
        for found in filter(None, pool.map(one, in_order(rows)[lambda names: names.isin(rows.index[asked])])):
            row = rows.loc[found["network"]]
            row = dict.fromkeys(COLUMNS, "") | dict(module=row["module"]) | found
            rows.loc[found["network"], COLUMNS] = [str(row[column]) for column in COLUMNS]
            save(rows)
            print(f"{row['result']:14} {row['seconds']:>6} s  {row['network']}  {row['reason']}", flush=True)
    save(rows)
    print(summary(rows))


if __name__ == "__main__":
    main()
