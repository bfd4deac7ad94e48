"""A front from data or from a study: train the manifold, train its controls, look at both; every step is resumed."""

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from cotrain.errors import ArgumentsError, StudyError
from cotrain.files import write_json, write_text
from cotrain.pareto import ParetoManifold
from cotrain.pareto.knobs import MOST_KNOBS
from cotrain.study.decide import read_grouping
from cotrain.study.folder import StudyFolder
from cotrain.study.front_config import FrontConfig
from cotrain.study.front_controls import load_controls, train_controls
from cotrain.study.front_results import Looked, front_results
from cotrain.study.front_setting import FrontSetting
from cotrain.study.front_training import train_manifold
from cotrain.study.run import Bar

__all__ = ["CONFIG", "MANIFOLD", "POINTS", "RESULTS", "front_config_of", "load_manifold", "run_front"]

CONFIG = "pareto/front.yaml"
MANIFOLD = "pareto/manifold.safetensors"
TRAINING = "pareto/training.json"
CONTROLS = "pareto/controls.safetensors"
RESULTS = "pareto/front.json"
POINTS = "pareto/front.csv"
OWN = ("groups", "form", "rank", "rays", "preferences")
"""Options that a study does not have."""


def front_config_of(path: Path, given: FrontConfig) -> FrontConfig:
    """The configuration of the front that is in a folder, or that is to be made of the study there.

    Args:
        path: The folder of a study, or of a front.
        given: Options as they were given; those that are not the defaults must fit what is there.

    Raises:
        ArgumentsError: If options of a study are given beside a study.
        StudyError: If the folder holds neither, its study has no groups yet, or its front has other options.
    """
    changed = {
        item.name: getattr(given, item.name)
        for item in fields(FrontConfig)
        if item.name != "data" and getattr(given, item.name) != item.default
    }
    file = path / CONFIG
    before = FrontConfig.from_yaml(file) if file.exists() else None
    if (path / "study.yaml").exists():
        foreign = [f"--{name}" for name in changed if name not in OWN]
        if foreign:
            raise ArgumentsError(
                f"Data, networks and trainings are those of the study in {path}. Leave out {', '.join(foreign)}."
            )
        kept = {name: getattr(before, name) for name in OWN} if before else {}
        config = _of_study(path, {**kept, **changed})
    elif before is not None:
        config = replace(before, **changed)
    else:
        raise StudyError(f"{path} holds neither a study nor a front. Give data, or a folder made by cotrain.")
    if before is not None:
        _require_same(path, before, config)
    return config


def run_front(
    config: FrontConfig,
    out: Path,
    *,
    bar: Bar,
    resume: bool = False,
    check: Callable[[FrontSetting], None] | None = None,
) -> None:
    """Make a front, or the part of it that is not done.

    Written are, under `pareto/`: the manifold, its controls (equal weights and single tasks, of the same budget), every
    point on validation and test samples (`front.csv`, `front.json`), and the options.

    Args:
        config: What to do.
        out: A folder of its own, or that of the study whose data these are.
        bar: Shows the progress of a step.
        resume: Go on with the front that is in the folder; finished steps are not run again, and the result is that
            of an uninterrupted run.
        check: Called before anything is trained or written, to refuse what could not be done in the end.

    Raises:
        CotrainError: If the data, the folder or a training do not allow it; what was finished is kept.
    """
    setting = FrontSetting.load(config)
    if check is not None:
        check(setting)
    folder = _open(out, config, resume)
    folder.log("run", data=setting.base.data.name, resume=resume)
    depends: dict[str, object] = {"front": setting.identity}

    def trained() -> None:
        with bar(f"Front: one manifold over {len(setting.knobs.names)} knobs") as progress:
            done = train_manifold(setting, checkpoint=folder.checkpoint("front-train"), progress=progress)
        done.manifold.save(folder.path / MANIFOLD)
        parameters = sum(value.numel() for value in done.manifold.parameters())
        plain = sum(value.numel() for value in setting.base.make_network().parameters())
        write_json(
            folder.path / TRAINING,
            {
                "form": config.form,
                "rays": config.rays,
                "epochs": setting.base.epochs,
                "best_epoch": done.best_epoch,
                "history": done.history,
                "parameters": parameters,
                "parameters_of_one_network": plain,
            },
        )

    def controlled() -> None:
        with bar("Controls: equal weights, and every task alone") as progress:
            path, checkpoint = folder.path / CONTROLS, folder.checkpoint("front-controls")
            train_controls(setting, path, checkpoint=checkpoint, progress=progress)

    def looked() -> None:
        with bar("Look at the front on validation and test samples") as progress:
            _look(folder, setting)
            progress(1, 1, "")

    folder.step("front-train", depends, [MANIFOLD, TRAINING], trained)
    folder.step("front-controls", depends, [CONTROLS], controlled)
    after = {
        **depends,
        "trained": folder.digests([MANIFOLD, TRAINING, CONTROLS]),
        "preferences": [[round(value, 6) for value in point] for point in setting.grid.tolist()],
    }
    folder.step("front-look", after, [RESULTS, POINTS], looked)


def load_manifold(folder: StudyFolder, setting: FrontSetting) -> ParetoManifold:
    """The trained manifold of a folder."""
    return ParetoManifold.load(folder.path / MANIFOLD, setting.base.make_network(), setting.base.data.tasks)


def _of_study(path: Path, own: Mapping[str, Any]) -> FrontConfig:
    folder, study = StudyFolder.existing(path)
    if not (path / "grouping.json").exists():
        raise StudyError(
            f"The study in {path} has no groups yet, and a front of many targets lies between groups. Choose them"
            f" first: cotrain groups {path}"
        )
    served = [group.serves for group in read_grouping(folder).groups if group.serves]
    names = [str(task["name"]) for task in folder.read_json("measure.json")["tasks"]]
    known = {name for group in served for name in group}
    given = own.get("groups")
    if given is not None:
        known |= {name.strip() for group in given for name in group.split("+")}
    from_study = tuple("+".join(group) for group in served) if len(known) > MOST_KNOBS else None
    if given is None and from_study is not None and len(from_study) < 2:
        raise StudyError(
            f"The study in {path} chose one group, so there is nothing to trade off between groups. Give them:"
            f' --groups "{"+".join(names[:2])},{"+".join(names[2:4])}", and so on.'
        )
    left_out = tuple(name for name in names if name not in known)
    return FrontConfig.of_study(study, **{**own, "groups": given or from_study, "left_out": left_out})


def _open(path: Path, config: FrontConfig, resume: bool) -> StudyFolder:
    file = path / CONFIG
    if path.exists() and not path.is_dir():
        raise StudyError(f"{path} is a file. Give a folder for the front.")
    if file.exists():
        _require_same(path, FrontConfig.from_yaml(file), config)
        if not resume:
            raise StudyError(f"{path} holds this front already. Add --resume to go on, or give another folder.")
        for part in path.rglob(".*.part"):  # what a kill left of a file that was being written
            part.unlink()
    else:
        write_text(file, config.to_yaml())
    return StudyFolder(path)


def _require_same(path: Path, before: FrontConfig, now: FrontConfig) -> None:
    there, here = before.as_dict(), now.as_dict()
    other = [
        f"{name}: {there.get(name)!r} there, {here.get(name)!r} now"
        for name in {**there, **here}
        if there.get(name) != here.get(name)
    ]
    if other:
        raise StudyError(
            f"{path} belongs to a front with other options ({'; '.join(other)}). Give the same options, another folder,"
            f" or delete {path / 'pareto'} to make it anew."
        )


def _look(folder: StudyFolder, setting: FrontSetting) -> None:
    manifold = load_manifold(folder, setting)
    controls = load_controls(setting, folder.path / CONTROLS)
    data = setting.base.data
    valid, test = (
        Looked(manifold.front(split.pair, setting.grid), controls.front(split.pair, controls.preferences))
        for split in (data.valid, data.test)
    )
    results = front_results(setting, valid, test, folder.read_json(TRAINING))
    write_json(folder.path / RESULTS, results)
    write_text(folder.path / POINTS, _as_csv(results))


def _as_csv(results: Mapping[str, Any]) -> str:
    """One row per point, and one per control; a control has no preference."""
    names, tasks = results["names"], [task["name"] for task in results["tasks"]]
    quantities = [(part, task, kind) for part in ("valid", "test") for task in tasks for kind in KINDS]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["what", *(f"preference/{name}" for name in names), "dominated", *("/".join(parts) for parts in quantities)]
    )
    for point in results["points"]:
        shares = [point["preference"][name] for name in names]
        writer.writerow(["front", *shares, point["dominated"], *_values(point, quantities)])
    for what, control in results["controls"].items():
        writer.writerow([what, *([""] * len(names)), "", *_values(control, quantities)])
    return text.getvalue()


KINDS = ("metric", "low", "high", "loss")


def _values(entry: Mapping[str, Any], quantities: list[tuple[str, str, str]]) -> list[Any]:
    return ["" if entry[part][task][kind] is None else entry[part][task][kind] for part, task, kind in quantities]
