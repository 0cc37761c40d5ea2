"""The golden run: a tiny training of each kind and its evaluations, by which two versions of the code are compared.

`training_version.py` runs it on the package of a source tree. It takes the folder that it writes to. Every field that
would follow the machine is stated. The bits are compared on the same machine, never between machines.
"""
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from patchlesion_nb.balancing import image_weights
from patchlesion_nb.config import EvaluationConfig, RunConfig, resolve_evaluation, resolve_run
from patchlesion_nb.evaluation import evaluate
from patchlesion_nb.metadata import ImageTable
from patchlesion_nb.splits import Round, split_round
from patchlesion_nb.training import train

SETTINGS = dict(
    dataset="golden", network="test_resnet", weights="none", crop_size=12, batch_size=4, epochs=2,
    validate_every=1, learning_rate=1e-3, threads=1, device="cpu")
VARIANTS = (
    {"strategy": "downsampling"},
    {"strategy": "single_crop"},
    {"strategy": "multi_crop", "balancing": "none"},
    {"strategy": "ordered_crop", "attention": "dual", "patch_dropout": 0.2},
    {"strategy": "ordered_crop", "aggregation": "gru", "gru_width": 16},
    {"aggregation": "abmil", "abmil_width": 8, "crop_count": 4},
    {"crop_loss": "each", "crop_count": 4},
    {"strategy": "multi_crop", "balancing": "oversampling"},
    {"strategy": "multi_crop", "balancing": "oversampling", "oversample_epoch": "full"},
    {"strategy": "multi_crop", "balancing": "balanced_batches"},
    {"strategy": "multi_crop", "balancing": "balanced_batches", "batch_size": 3, "strict": False},
    {"strategy": "multi_crop", "balancing": "diagnosis_guided", "diagnosis_scope": "all"},
    {"strategy": "multi_crop", "loss_reduction": "mean"})


def golden_data():
    "Twenty-four images of noise, one in four of the rare class, with three diagnosis types in turn"
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 32, 3), dtype=np.uint8)
    names = [f"image_{index:02}" for index in range(len(pixels))]
    targets = (np.arange(len(pixels)) % 4 == 0).astype(np.int64)
    images = pd.DataFrame({
        "image_id": names, "archive": "", "path": "", "target": targets, "lesion_id": names,
        "class_name": np.where(targets == 1, "B", "A"),
        "diagnosis_type": np.resize(["consensus", "follow_up", "histo"], len(pixels))})
    return ImageTable(images, ("A", "B"), "golden"), pixels


def train_and_evaluate(folder, table, pixels):
    "Every variant, and both of its checkpoints: four batches per epoch, the last one smaller"
    parts = Round(np.arange(14), np.arange(14, 20), np.arange(20, 24))
    for index, variant in enumerate(VARIANTS):
        config = resolve_run(RunConfig(**SETTINGS | variant))
        run = train(config, table, pixels, parts, folder / str(index), progress=False)
        for checkpoint in ("last", "best"):
            asked = resolve_evaluation(EvaluationConfig(checkpoint=checkpoint), config)
            evaluate(run, config, asked, table, pixels, parts, run / checkpoint)
    weights = {path.read_bytes() for path in folder.glob("*/last.safetensors")}
    assert len(weights) == len(VARIANTS), "two variants train the same network"


def rounds_and_weights(table):
    "What the trainings do not reach: rounds of a split, weights of each class and diagnosis type"
    split = pd.Series(np.resize(["fold0", "fold1", "fold2", "test"], 24), table.images.image_id)
    rounds = [vars(split_round(table, split, fold)) for fold in range(3)]
    classes = "MEL NV BCC AKIEC BKL DF VASC".split()
    types = "consensus follow_up confocal histo".split() * 7
    guided = [RunConfig(balancing="diagnosis_guided", diagnosis_scope=scope)
              for scope in ("benign", "nevus", "all")]
    weights = [image_weights(np.repeat(range(7), 4), classes, one, types).tolist() for one in guided]
    return f"{rounds} {weights}"


if __name__ == "__main__":
    table, pixels = golden_data()
    train_and_evaluate(Path(sys.argv[1]), table, pixels)
    Path(sys.argv[1], "rounds_and_weights.txt").write_text(rounds_and_weights(table), "utf-8")
