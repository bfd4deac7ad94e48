"""A preference of a finished front: chosen on validation samples, measured on test samples, exported as weights."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cotrain.errors import ArgumentsError, as_arguments_errors
from cotrain.files import write_json
from cotrain.pareto import Front
from cotrain.pareto.preference import as_preferences
from cotrain.pareto.sample_scores import METRIC_OF_KIND
from cotrain.study.folder import StudyFolder
from cotrain.study.front_config import FrontConfig
from cotrain.study.front_results import described, plain
from cotrain.study.front_run import load_manifold
from cotrain.study.front_setting import FrontSetting
from cotrain.study.front_words import preference_words
from cotrain.study.weights import save_network
from cotrain.study.words import values_by_name

__all__ = ["CHOICE", "CHOSEN", "Wish", "choose_preference", "require_possible", "wish_of"]

CHOICE = "pareto/choice.json"
CHOSEN = "pareto/chosen.safetensors"
BOUND = re.compile(r"\s*(?P<name>[^<>=]+?)\s*(?P<bound>[<>]=\s*[-+.\deE]+)\s*(?:[,;]|$)")
SHARE = re.compile(r"\s*(?P<name>[^=]+?)\s*=\s*(?P<share>[-+.\deE]+)\s*(?:[,;]|$)")


@dataclass(frozen=True)
class Wish:
    """What is wanted of a preference; exactly one of the first three is given.

    Args:
        minimize: "loss/TASK" or the like; see `Front.choose`.
        maximize: "accuracy/TASK" or the like.
        preference: {name: share}, where it is known already.
        subject_to: {"accuracy/TASK": ">= 0.82"} or the like.
    """

    minimize: str | None = None
    maximize: str | None = None
    preference: dict[str, float] | None = None
    subject_to: dict[str, str] = field(default_factory=dict)


def wish_of(
    minimize: str | None, maximize: str | None, preference: str | None, subject_to: Sequence[str] | None
) -> Wish | None:
    """A wish from the words of a command line; None if nothing is wished.

    Raises:
        ArgumentsError: If they contradict each other, or are not understood.
    """
    given = [name for name in (minimize, maximize, preference) if name is not None]
    if not given and not subject_to:
        return None
    if len(given) != 1:
        raise ArgumentsError(
            "Give one of --minimize, --maximize and --preference"
            + (", which --subject_to then limits." if not given else f". Got {len(given)} of them.")
        )
    if preference is not None and subject_to:
        raise ArgumentsError("--preference says it all: leave out --subject_to, which limits a choice.")
    bounds: dict[str, str] = {}
    for text in subject_to or ():
        bounds |= values_by_name(BOUND, text, "--subject_to", "age >= 0.82, loss/income <= 0.3")
    shares = None if preference is None else values_by_name(SHARE, preference, "--preference", "age=0.7,income=0.3")
    try:
        known = None if shares is None else {name: float(share) for name, share in shares.items()}
    except ValueError as error:
        raise ArgumentsError(f"A share of --preference is no number: {error}.") from error
    return Wish(minimize, maximize, known, bounds)


def require_possible(setting: FrontSetting, wish: Wish) -> None:
    """Refuse a wish that no front of these targets can fulfil, before it is trained.

    Raises:
        ArgumentsError: If the wish names what there is not, or is not understood.
    """
    tasks, count = setting.base.data.tasks, len(setting.knobs.names)
    nothing = torch.zeros(count, len(tasks), dtype=torch.float64)
    metric_names = tuple(METRIC_OF_KIND[task.kind] for task in tasks)
    untrained = Front(
        setting.knobs.names, tasks.names, torch.eye(count), nothing, nothing, metric_names, setting.knobs.shares
    )
    with as_arguments_errors():
        _chosen(untrained, wish)


def choose_preference(config: FrontConfig, out: Path, wish: Wish) -> None:
    """Choose a preference of a finished front, and write `pareto/choice.json` and `pareto/chosen.safetensors`.

    Args:
        config: Of the front.
        out: Its folder.
        wish: What is wanted. Bounds are held against validation samples; where none can keep them, the preference
            that misses them least is taken, and flagged.

    Raises:
        ArgumentsError: If the wish names what there is not, or is not understood.
    """
    setting = FrontSetting.load(config)
    manifold = load_manifold(StudyFolder(out), setting)
    data = setting.base.data
    with as_arguments_errors():
        chosen = _chosen(manifold.front(data.valid.pair, setting.grid), wish)
    preference = chosen["preference"]
    measured = {
        part: described(manifold.front(split.pair, as_preferences(preference, manifold.names)))[0]
        for part, split in (("valid", data.valid), ("test", data.test))
    }
    names = data.tasks.names
    save_network(out / CHOSEN, manifold.export(preference), setting.base, names, names)
    write_json(out / CHOICE, {**chosen, **measured})


def _chosen(front: Front, wish: Wish) -> dict[str, Any]:
    asked = {"minimize": wish.minimize, "maximize": wish.maximize, "subject_to": wish.subject_to}
    if wish.preference is not None:
        shares = as_preferences(wish.preference, front.names).tolist()
        preference = dict(zip(front.names, shares, strict=True))
        sentence = f"Preference {preference_words(preference)}, as given."
        return {**asked, "preference": preference, "feasible": True, "violation": {}, "sentence": sentence}
    choice = front.choose(minimize=wish.minimize, maximize=wish.maximize, subject_to=wish.subject_to)
    return {
        **asked,
        "preference": dict(choice.as_dict),
        "feasible": choice.feasible,
        "violation": dict(choice.violation),
        "sentence": choice.sentence,
        "expected": {task: plain(value) for task, value in choice.metrics.items()},
    }
