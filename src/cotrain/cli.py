"""The command line: `cotrain run` and its steps one by one."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.text import Text

from cotrain.aggregation import aggregation_names, named
from cotrain.data import datasets, get
from cotrain.errors import ArgumentsError, CotrainError
from cotrain.progress import progress_bar
from cotrain.report import write_front_report, write_report
from cotrain.study import StudyConfig, StudyFolder, run_study
from cotrain.study.aggregated import train_aggregated
from cotrain.study.choose import answer
from cotrain.study.front_choice import choose_preference, require_possible, wish_of
from cotrain.study.front_config import FrontConfig
from cotrain.study.front_run import CONFIG, front_config_of, run_front
from cotrain.study.groups_config import GroupsConfig
from cotrain.study.words import names_of
from cotrain.terminal import affinity_table, aggregation_tables, cluster_tables, dataset_table, outcome_tables
from cotrain.terminal_front import choice_tables, front_tables
from cotrain.version import __version__

__all__ = ["main"]

FAILED, BAD_ARGUMENTS = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after `cotrain`; None for those of the process.

    Returns:
        The exit code: 0, 1 if the command failed (the reason is on standard error in a sentence or two), 2 for bad
        arguments.
    """
    parser, commands = _parser()
    chosen = parser.parse_args(arguments)
    try:
        commands[chosen.subcommand](chosen[chosen.subcommand])
    except ArgumentsError as error:
        return _fail(error, BAD_ARGUMENTS)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}." if error.filename else error, FAILED)
    except (CotrainError, ValueError, ImportError) as error:
        return _fail(error, FAILED)
    except KeyboardInterrupt:
        return _fail("Interrupted. What was finished is kept: go on with --resume.", FAILED)
    return 0


def _fail(error: object, code: int) -> int:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"cotrain: {error}", markup=False)
    return code


def _parser() -> tuple[ArgumentParser, dict[str, Callable[[Namespace], None]]]:
    parser = ArgumentParser(
        prog="cotrain", version=__version__, description="Which of many prediction targets should be trained together?"
    )
    subcommands = parser.add_subcommands(metavar="COMMAND")
    commands: dict[str, Callable[[Namespace], None]] = {}

    def add(name: str, run: Callable[[Namespace], None], words: str) -> ArgumentParser:
        command = ArgumentParser(description=words)
        subcommands.add_subcommand(name, command, help=words)
        commands[name] = run
        return command

    _add_study_arguments(add("run", _run, "measure, decide, train and check groups, and write the report"))
    _add_study_arguments(add("affinity", _affinity, "only measure how the tasks act on each other"))
    groups = add("groups", _groups, "choose groups: of a study, or from a table of measured groups or of affinities")
    groups.add_class_arguments(GroupsConfig, as_positional=True, as_group=False, skip={"partition"})
    groups.add_argument("--partition", action="store_true", help="disjoint groups: no helpers from other networks")
    train = add("train", _train, "train and check a study's groups, and write the report")
    train.add_argument("folder", type=str, help="the study's folder")
    train.add_argument(
        "--aggregation",
        type=str | None,
        default=None,
        help="after the check: train the networks of several tasks again with their gradients combined by this method"
        f" ({', '.join(aggregation_names())}), and compare with the plain sum",
    )
    _add_front_arguments(add("front", _front, "train one network for every trade-off between targets, and choose one"))
    report = add("report", _report, "write the page of a study, or of a front, again")
    report.add_argument("folder", type=str, help="its folder")
    data = add("datasets", _datasets, "what is built in, where its files are looked for, and how to get them")
    data.add_argument("action", type=str, nargs="?", default="list", choices=["list", "get"], help="list, or get NAME")
    data.add_argument("name", type=str, nargs="?", default=None, help="the data set to download")
    return parser, commands


def _add_common_arguments(parser: ArgumentParser, what: str, folder: str) -> None:
    """What studies and fronts have in common: their file of options, folder and targets."""
    parser.add_argument("--config", action="config", help="a YAML file with any of these options")
    parser.add_argument(
        "--out", type=str, default=None, help=f"the {what}'s folder (default: {folder}, or the next free)"
    )
    parser.add_argument("--resume", action="store_true", help=f"go on with the {what} in the folder given with --out")
    parser.add_argument(
        "--targets",
        type=list[str] | str | None,
        default=None,
        help="names of the targets: a,b,c, or [a, b, c] in YAML (default: all that a built-in data set has)",
    )


def _add_study_arguments(parser: ArgumentParser) -> None:
    _add_common_arguments(parser, "study", "cotrain-DATA")
    parser.add_class_arguments(StudyConfig, as_positional=True, as_group=False, skip={"targets"})


def _add_front_arguments(parser: ArgumentParser) -> None:
    _add_common_arguments(parser, "front", "cotrain-front-DATA")
    parser.add_argument(
        "--groups",
        type=list[str] | str | None,
        default=None,
        help="for more than 5 targets: groups that the preference is over, a+b,c+d (default: a study's own)",
    )
    parser.add_argument("--minimize", type=str | None, default=None, help="choose: make this small, such as loss/age")
    parser.add_argument("--maximize", type=str | None, default=None, help="choose: make this large, such as age")
    parser.add_argument(
        "--subject_to", action="append", type=str, default=None, help='choose: within bounds, such as "age >= 0.82"'
    )
    parser.add_argument("--preference", type=str | None, default=None, help="take this one, such as age=0.7,income=0.3")
    parser.add_class_arguments(FrontConfig, as_positional=True, as_group=False, skip={"targets", "groups", "left_out"})


def _study_config(chosen: Namespace) -> tuple[StudyConfig, Path]:
    values = {name: value for name, value in chosen.as_dict().items() if name not in ("config", "out", "resume")}
    values["targets"] = names_of(values["targets"])
    config = StudyConfig(**values)
    if chosen.resume and chosen.out is None:
        raise ArgumentsError("--resume needs the study's folder: add --out FOLDER.")
    return config, Path(chosen.out) if chosen.out else _free_folder(Path(config.data).stem)


def _free_folder(name: str) -> Path:
    folder, number = Path(f"cotrain-{name}"), 2
    while folder.exists():
        folder, number = Path(f"cotrain-{name}-{number}"), number + 1
    return folder


def _run(chosen: Namespace) -> None:
    config, out = _study_config(chosen)
    run_study(config, out, bar=progress_bar, resume=chosen.resume)
    _show_outcome(out)


def _affinity(chosen: Namespace) -> None:
    config, out = _study_config(chosen)
    run_study(config, out, bar=progress_bar, resume=chosen.resume, last="measure")
    console = Console()
    console.print(affinity_table(out))
    console.print(Text(f"Affinities: {out / 'affinity.csv'}. Next: cotrain groups {out}"), soft_wrap=True)


def _groups(chosen: Namespace) -> None:
    config = GroupsConfig(**chosen.as_dict())
    found = answer(config, bar=progress_bar)
    console = Console()
    for table in cluster_tables(found.clustering) if found.clustering else ():
        console.print(table)
    console.print(str(found.grouping), markup=False, soft_wrap=True)
    if config.out is not None:
        console.print(Text(f"Groups: {config.out}"), soft_wrap=True)
    if found.of_study:
        console.print(Text(f"Next: cotrain train {config.source}"), soft_wrap=True)


def _train(chosen: Namespace) -> None:
    out = Path(chosen.folder)
    folder, config = StudyFolder.existing(out)
    if config.check == "none":
        raise ArgumentsError("This study was started with --check none. Start another one with --check quick or full.")
    if chosen.aggregation is not None:
        named(chosen.aggregation)  # an unknown name, or a missing extra, is told before anything is trained
    run_study(config, out, bar=progress_bar, resume=True)
    _show_outcome(out)
    if chosen.aggregation is not None:
        train_aggregated(config, folder, chosen.aggregation, bar=progress_bar)
        write_report(out)
        for part in aggregation_tables(out, chosen.aggregation):
            Console().print(part)


def _front(chosen: Namespace) -> None:
    values = {name: value for name, value in chosen.as_dict().items() if name not in ("config", "out", "resume")}
    wish = wish_of(*(values.pop(name) for name in ("minimize", "maximize", "preference", "subject_to")))
    values["targets"], values["groups"] = names_of(values["targets"]), names_of(values["groups"])
    config = FrontConfig(**values)
    source = Path(config.data)
    is_folder = source.is_dir()
    if is_folder and chosen.out is not None:
        raise ArgumentsError(f"The front of {source} is written there. Leave out --out.")
    if chosen.resume and chosen.out is None and not is_folder:
        raise ArgumentsError("--resume needs the front's folder: add --out FOLDER.")
    if is_folder:
        out, config = source, front_config_of(source, config)
    else:
        out = Path(chosen.out) if chosen.out else _free_folder(f"front-{source.stem}")
    check = None if wish is None else partial(require_possible, wish=wish)
    run_front(config, out, bar=progress_bar, resume=chosen.resume or is_folder, check=check)
    console = Console()
    if wish is None:
        for part in front_tables(out):
            console.print(part, soft_wrap=isinstance(part, Text))
    else:
        choose_preference(config, out, wish)
        for part in choice_tables(out):
            console.print(part, soft_wrap=isinstance(part, Text))
    console.print(Text(f"Report: {_write_page(out)}"), soft_wrap=True)


def _write_page(folder: Path) -> Path:
    """The page of a study, or of a front that is no study's."""
    is_front = not (folder / "study.yaml").exists() and (folder / CONFIG).exists()
    return write_front_report(folder) if is_front else write_report(folder)


def _report(chosen: Namespace) -> None:
    folder = Path(chosen.folder)
    if not (folder / CONFIG).exists():
        StudyFolder.existing(folder)
    Console().print(Text(f"Report: {_write_page(folder)}"), soft_wrap=True)


def _datasets(chosen: Namespace) -> None:
    if chosen.action == "list":
        Console().print(dataset_table(datasets()))
        return
    if chosen.name is None:
        raise ArgumentsError("Name the data set to get: cotrain datasets get NAME")
    with progress_bar(f"Get {chosen.name}") as progress:
        folder = get(chosen.name, progress=progress)
    place = f"is in {folder}" if folder else "needs no files: it ships with an installed package"
    Console().print(Text(f"{chosen.name} {place}."), soft_wrap=True)


def _show_outcome(out: Path) -> None:
    report = write_report(out)
    console = Console()
    for part in outcome_tables(out):
        console.print(part)
    console.print(Text(f"Report: {report}"), soft_wrap=True)
