"""The main job: measure, decide, check, compare, report; every step is resumed where it was."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import torch

from cotrain.progress import Listener
from cotrain.study.check import check_files, check_seed, step_name
from cotrain.study.comparison import COMPARED_FILES, compare, predict_only
from cotrain.study.config import TRAINING_METHODS, StudyConfig
from cotrain.study.decide import decide, decided_files
from cotrain.study.folder import StudyFolder
from cotrain.study.gain_models import TRAININGS_FILE
from cotrain.study.measure import MEASURED_FILES, measure
from cotrain.study.membership_check import check_memberships, membership_file, membership_step
from cotrain.study.setting import Setting
from cotrain.study.trainings import STEP, train_to_learn
from cotrain.version import __version__

__all__ = ["Bar", "LastStep", "run_study"]

LastStep = Literal["measure", "decide", "compare"]
Bar = Callable[[str], AbstractContextManager[Listener]]
"""Opens a progress bar with a description, such as `cotrain.progress.progress_bar`."""


def run_study(config: StudyConfig, out: Path, *, bar: Bar, resume: bool = False, last: LastStep = "compare") -> None:
    """Run a study, or the part of it that is not done.

    Args:
        config: What to do.
        out: The study's folder.
        bar: Shows the progress of a step.
        resume: Go on with the study that is in the folder; finished steps are not run again, and the result is that
            of an uninterrupted run.
        last: Stop after this step.

    Raises:
        CotrainError: If the data, the folder or a training do not allow it; what was finished is kept.
    """
    setting = Setting.load(config)
    folder = StudyFolder.open(out, config, resume=resume)
    folder.log("run", data=setting.data.name, resume=resume)
    # Steps of another version may not be those of this one: after an upgrade they are run again.
    versions = {"cotrain": __version__, "torch": torch.__version__}
    relevant = {"config": config.as_dict(), "data": setting.data.fingerprint, "versions": versions}

    def measured() -> None:
        with bar("Measure: all tasks in one network") as progress:
            measure(folder, setting, progress)

    folder.step("measure", relevant, MEASURED_FILES, measured)
    if last == "measure":
        return
    before: dict[str, object] = {**relevant, "measured": folder.digests(MEASURED_FILES)}
    if config.method in TRAINING_METHODS:

        def trained() -> None:
            with bar("Search: train groups to learn which ones to choose") as progress:
                train_to_learn(folder, setting, before, progress)

        folder.step(STEP, before, [TRAININGS_FILE], trained)
        before["trained"] = folder.digests([TRAININGS_FILE])

    def decided() -> None:
        with bar("Decide: groups under the budget") as progress:
            decide(folder, setting)
            progress(1, 1, "")

    folder.step("decide", before, decided_files(config), decided)
    before["decided"] = folder.digests(decided_files(config))
    if config.check == "none":
        folder.step("predict", before, ["gains.csv"], lambda: predict_only(folder, setting))
    if last == "decide" or config.check == "none":
        return
    results = []
    for number in range(config.seeds):
        seed = config.seed + number

        def checked(seed: int = seed, number: int = number) -> None:
            with bar(f"Check: train every arm, seed {number + 1} of {config.seeds}") as progress:
                check_seed(folder, setting, seed, progress)

        files = check_files(folder, setting, seed)
        folder.step(step_name(seed), {**before, "seed": seed}, files, checked)
        results += files
        if config.method == "data-maps":

            def memberships(seed: int = seed, number: int = number) -> None:
                with bar(f"Memberships: soft and sparse, seed {number + 1} of {config.seeds}") as progress:
                    check_memberships(folder, setting, seed, progress)

            folder.step(membership_step(seed), {**before, "seed": seed}, [membership_file(seed)], memberships)
            results.append(membership_file(seed))
    after = {**before, "checked": folder.digests(results)}
    folder.step("compare", after, COMPARED_FILES, lambda: compare(folder, setting))
