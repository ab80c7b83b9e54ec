"""The verbs for machines without a notebook: each line of the command line is a line of Python.

Results are kept in the folder given with ``--out`` and every verb goes on from what is there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import autoseg
from autoseg.core.errors import AutosegError, DatasetError, EvaluationError, ModelError

if TYPE_CHECKING:
    from autoseg.planning.configuration import Configuration
    from autoseg.planning.plan import Plan
    from autoseg.preprocessing.store import PreprocessedDataset
    from autoseg.training.blueprint import Blueprint

STOPPED = "Stopped. What was finished is kept: the same command goes on from there."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Returns 0, 1 after an error that is explained, 130 after Ctrl-C, 141 where no one reads on."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except AutosegError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{STOPPED}\n")
        return 130
    except BrokenPipeError:  # such as `| head`
        _write_no_more()
        return 141
    except OSError as error:
        sys.stderr.write(f"{error.filename or 'output'}: {error.strerror or error}\n")
        _write_no_more()
        return 1


def _write_no_more() -> None:
    """What still waits to be shown goes nowhere, where Python would fail again on its way out."""
    with contextlib.suppress(OSError, ValueError):  # a stdout that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str) -> None:
    """Show a text at once, with an empty line after it."""
    sys.stdout.write(f"{text}\n\n")
    sys.stdout.flush()


def _demo(options: argparse.Namespace) -> int:
    from autoseg.demo import run_demo

    dataset = autoseg.open_dataset(options.data) if options.data else autoseg.sample_dataset()
    run_demo(dataset, options.out, minutes=options.minutes, say=say)
    say(f"Everything is in {options.out}. Open {Path(options.out) / 'report.html'} in a browser.")
    return 0


def _check(options: argparse.Namespace) -> int:
    dataset = autoseg.open_dataset(options.data)
    findings = autoseg.check(dataset)
    say(repr(dataset))
    say("\n".join(map(repr, findings)) or f"All {len(dataset)} training cases can be used.")
    return int(len(findings.errors) > 0)


def _fingerprint(options: argparse.Namespace) -> int:
    dataset = autoseg.open_dataset(options.data)
    say(repr(autoseg.extract_fingerprint(dataset, folder=options.out)))
    return 0


def _plan(options: argparse.Namespace) -> int:
    plan = _make_plan(options)
    say(repr(plan))
    for shown in plan.trace if options.why is None else [plan.why(options.why)]:
        say(repr(shown))
    return 0


def _preprocess(options: argparse.Namespace) -> int:
    say(repr(_prepare(options)))
    return 0


def _train(options: argparse.Namespace) -> int:
    from autoseg.demo import train_to_end
    from autoseg.training.launch import join_launched

    blueprint = _blueprint(options)
    if options.fold != "all":
        autoseg.open_dataset(options.data).fold(options.fold)  # which must be there, before anything is done
    team = join_launched()
    with team.leader_first():
        prepared = _prepare(options)
    training = autoseg.Training(prepared, fold=options.fold, blueprint=blueprint)
    train_to_end(training)
    if team.leads:
        say(repr(training))
        say(f"The model is in {training.folder}.")
    return 0


def _predict(options: argparse.Namespace) -> int:
    found = autoseg.predict(
        autoseg.open_models(options.model),
        _cases(options),
        folder=options.output,
        mirroring=not options.no_mirroring,
        overlap=options.overlap,
        device=options.device,
    )
    say(repr(found))
    for sentence in found.failed.values():
        sys.stderr.write(f"{sentence}\n")
    return int(len(found.failed) > 0)


def _evaluate(options: argparse.Namespace) -> int:
    from autoseg.data.formats import stem_of
    from autoseg.data.images import read_label_map

    dataset = autoseg.open_dataset(options.data)
    cases = {case.name: case for case in dataset}
    files = {stem_of(p): p for p in sorted(Path(options.predictions).glob("*"))}
    predictions = [
        autoseg.Prediction(case=cases[name], label_map=read_label_map(path, dataset.labels))
        for name, path in files.items()
        if name in cases and path.suffix not in (".json", ".npz")
    ]
    if not predictions:
        raise EvaluationError(
            f"{options.predictions} holds no file named after a training case of {dataset.name!r}, "
            f"such as {dataset.training[0].name}.nii.gz."
        )
    evaluation = autoseg.evaluate(predictions, dataset)
    say(repr(evaluation))
    if options.csv:
        say(f"Scores of every case: {evaluation.to_csv(options.csv)}")
    if options.json:
        say(f"The same as nnU-Net writes it: {evaluation.to_json(options.json)}")
    return 0


def _report(options: argparse.Namespace) -> int:
    dataset = autoseg.open_dataset(options.data) if options.data else None
    path = autoseg.report(options.page or Path(options.folder) / "report.html", folder=options.folder, dataset=dataset)
    say(f"Open {path} in a browser.")
    return 0


def _export(options: argparse.Namespace) -> int:
    models = [autoseg.TrainedModel.load(folder) for folder in options.model]
    if options.to == "nnunet":
        say(f"nnU-Net's predictor loads {autoseg.export_nnunet_model(models, options.out)}.")
        return 0
    if len(models) > 1:
        raise ModelError(f"{len(models)} models were given, but only nnU-Net keeps several folds together.")
    if options.to == "autoseg":
        say(f"The model is in {models[0].save(Path(options.out).with_suffix('.autoseg'))}.\n{models[0].card!r}")
        return 0
    verbs = {
        "bundle": autoseg.export_bundle,
        "onnx": autoseg.export_onnx,
        "torchscript": autoseg.export_torchscript,
    }
    say(repr(verbs[options.to](models[0], options.out)))
    return 0


def _make_plan(options: argparse.Namespace) -> Plan:
    """The plan given with --plan, or the one that fingerprint and budget lead to; kept in the folder."""
    if options.plan:
        return autoseg.Plan.load(options.plan)
    fingerprint = autoseg.extract_fingerprint(autoseg.open_dataset(options.data), folder=options.out)
    plan = autoseg.make_plan(fingerprint, autoseg.Budget(memory_gb=options.memory, preset=options.preset))
    plan.save(Path(options.out) / "plan.json")
    return plan


def _prepare(options: argparse.Namespace) -> PreprocessedDataset:
    return autoseg.preprocess(autoseg.open_dataset(options.data), _configuration(options), folder=options.out)


def _configuration(options: argparse.Namespace) -> Configuration:
    from autoseg.demo import best_start

    plan = _make_plan(options)
    return plan[options.configuration] if options.configuration else best_start(plan)


def _blueprint(options: argparse.Namespace) -> Blueprint:
    """The published recipe where epochs are given, else the quick one."""
    if options.epochs is not None:
        return autoseg.Blueprint.nnunet(epochs=options.epochs)
    return autoseg.Blueprint.quick(minutes=options.minutes)


def _cases(options: argparse.Namespace) -> Any:
    """Test cases of a dataset or the validation cases of a fold, or whatever lies at the path."""
    path = Path(options.input)
    if not (path / "dataset.json").exists():
        if options.fold is not None:
            raise DatasetError(
                f"{path} is no dataset (it holds no dataset.json), so it has no folds: leave --fold out."
            )
        return path
    dataset = autoseg.open_dataset(path)
    return dataset if options.fold is None else dataset.fold(options.fold).validation


def _fold(text: str) -> int | str:
    if text != "all" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no fold: 0 to 4, or all")
    return text if text == "all" else int(text)


Option = tuple[str, dict[str, Any]]
DATA: Option = ("data", {"metavar": "DATASET", "help": "folder with dataset.json, in BIDS, or with images/ and masks/"})
OUT: Option = ("--out", {"metavar": "FOLDER", "default": "autoseg_work", "help": "keeps the results (%(default)s)"})
PLAN: tuple[Option, ...] = (
    ("--memory", {"metavar": "GB", "type": float, "help": "GPU memory to plan for"}),
    ("--preset", {"default": "default", "help": "default, resenc_m, resenc_l or resenc_xl"}),
    ("--plan", {"metavar": "FILE", "help": "a plan.json to use instead of making one"}),
)
CONFIGURATION: Option = ("--configuration", {"metavar": "NAME", "help": "3d_fullres where the plan has it, else 2d"})
FOLD: Option = ("--fold", {"type": _fold, "default": 0, "help": "0 to 4, or all (%(default)s)"})
VERBS: dict[str, tuple[Callable[[argparse.Namespace], int], str, tuple[Option, ...]]] = {
    "demo": (
        _demo,
        "the whole method, from images to a report, in a few minutes",
        (
            ("--data", {"metavar": "DATASET", "help": "your folder of images and masks; by default what comes along"}),
            ("--minutes", {"type": float, "default": 2.0, "help": "of training (%(default)s)"}),
            ("--out", {"metavar": "FOLDER", "default": "autoseg_demo", "help": "keeps the results (%(default)s)"}),
        ),
    ),
    "check": (_check, "read every case of a dataset and say what is wrong", (DATA,)),
    "fingerprint": (_fingerprint, "collect the facts that planning needs", (DATA, OUT)),
    "plan": (
        _plan,
        "configure the method, with the reason of every value",
        (DATA, OUT, *PLAN, ("--why", {"metavar": "NAME", "help": "only decisions of this name, such as patch_size"})),
    ),
    "preprocess": (_preprocess, "bring every case to the plan's grid", (DATA, OUT, *PLAN, CONFIGURATION)),
    "train": (
        _train,
        "train one fold",
        (
            *(DATA, OUT, *PLAN, CONFIGURATION, FOLD),
            ("--minutes", {"type": float, "default": 5.0, "help": "the quick recipe, for so long (%(default)s)"}),
            ("--epochs", {"type": int, "help": "nnU-Net's published recipe, for so many epochs (it uses 1000)"}),
        ),
    ),
    "predict": (
        _predict,
        "segment images with one model, with the mean of its folds, or with a cascade",
        (
            (
                "model",
                {
                    "metavar": "MODEL",
                    "help": "a run such as work/runs/2d/fold_0, a folder of folds, a .autoseg file, "
                    "or nnU-Net's folder or zip",
                },
            ),
            (
                "input",
                {
                    "metavar": "INPUT",
                    "help": "a file, a folder of images, a DICOM series, or a dataset: its test cases",
                },
            ),
            ("output", {"metavar": "OUTPUT", "help": "folder for the label maps; the same command goes on there"}),
            ("--fold", {"type": int, "help": "of a dataset: the validation cases of this fold instead"}),
            ("--no-mirroring", {"action": "store_true", "help": "faster, a little less precise"}),
            ("--overlap", {"type": float, "default": 0.5, "help": "of neighbouring tiles (%(default)s)"}),
            ("--device", {"help": "such as cpu or cuda; the best at hand by default"}),
        ),
    ),
    "evaluate": (
        _evaluate,
        "compare label maps with those of a dataset",
        (
            ("predictions", {"metavar": "FOLDER", "help": "label maps named after the cases"}),
            DATA,
            ("--csv", {"metavar": "FILE", "help": "write the scores of every case"}),
            ("--json", {"metavar": "FILE", "help": "write them as nnU-Net does, such as summary.json"}),
        ),
    ),
    "report": (
        _report,
        "one page of an experiment, from its fingerprint to its scores",
        (
            ("folder", {"metavar": "FOLDER", "help": "of the experiment, such as autoseg_work"}),
            ("--data", {"metavar": "DATASET", "help": "to show the predictions on their images"}),
            ("--page", {"metavar": "FILE", "help": "report.html in the folder where none is given"}),
        ),
    ),
    "export": (
        _export,
        "write a model for nnU-Net, MONAI, ONNX Runtime or torch, or as one file",
        (
            ("model", {"nargs": "+", "metavar": "RUN", "help": "such as work/runs/2d/fold_0, or a .autoseg file"}),
            ("--to", {"required": True, "choices": ("nnunet", "bundle", "onnx", "torchscript", "autoseg")}),
            ("--out", {"metavar": "PATH", "required": True, "help": "a folder; for nnunet also x.zip"}),
        ),
    ),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="autoseg", description=(autoseg.__doc__ or "").partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"autoseg {autoseg.__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name, (run, purpose, options) in VERBS.items():
        verb = verbs.add_parser(name, help=purpose, description=purpose)
        verb.set_defaults(run=run)
        for flag, settings in options:
            verb.add_argument(flag, **settings)
    return parser


if __name__ == "__main__":
    sys.exit(main())
