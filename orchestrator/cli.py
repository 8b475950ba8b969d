"""The command ``bottomhalf`` (and ``bh``): finds the verb, connects it with a machine, exits.

Options of ours stand before a verb of the kernel layer; behind it everything belongs to the tool.
Nothing heavy is imported here: ``bottomhalf --version`` must answer at once.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from orchestrator import verbs
from orchestrator.errors import (
    OK,
    PROGRAM,
    USAGE,
    BottomhalfError,
    did_you_mean,
    guard,
    nobody_reads,
    words,
)
from orchestrator.verbs import LAYERS, TABLE, Verb

FIRST_STEPS = """\
  bottomhalf demo              watch one first: 20 s, only files are left behind
  bottomhalf up -d             a machine that stays; bottomhalf ping gateway
  bottomhalf VERB --help       what a verb takes
"""


if TYPE_CHECKING:
    from nodes.machine import MachineSettings

    _ParamType = click.ParamType[str]
else:
    _ParamType = click.ParamType  # generic only for type checkers before click 8.2


class Options(NamedTuple):
    """Options before the verb."""

    on: str | None = None
    json: bool = False
    cpu: str | None = None


class _Grammar(click.Group):
    """All verbs of the table as commands; our own messages for words that are none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(TABLE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        verb = TABLE.get(cmd_name)
        return None if verb is None else _command(verb)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if not ctx.resilient_parsing:
            verbs.lookup(name)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(overview())


def overview() -> str:
    """The help page: verbs by layer."""
    lines = [
        "bottomhalf [--on NAME] [--json] VERB [TARGET...] [OPTIONS]     `bh` is the same\n",
        "A Linux machine taken apart into processes that you can kill.\n",
    ]
    for layer, title in LAYERS.items():
        lines.append(f"\n{title}\n")
        lines.extend(
            f"  {v.name:<11}{_short(v.help)}\n" for v in TABLE.values() if v.layer == layer
        )
    lines.append("\nstart here\n" + FIRST_STEPS)
    return "".join(lines)


def _short(text: str, width: int = 66) -> str:
    text = text.partition("\n")[0]
    return text if len(text) <= width else text[: width - 2].rsplit(" ", 1)[0] + " .."


class _Word(_ParamType):
    """A word behind a verb; completes node names, names of scenarios and machines."""

    name = "word"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[Any]:
        from click.shell_completion import CompletionItem  # noqa: PLC0415

        from orchestrator.completing import candidates  # noqa: PLC0415

        found = candidates(ctx.info_name or "")
        return [CompletionItem(word) for word in found if word.startswith(incomplete)]


def _command(verb: Verb) -> click.Command:
    def run(args: tuple[str, ...]) -> int:
        ctx = click.get_current_context()
        return perform(verb, ctx.find_object(Options) or Options(), list(args))

    settings: dict[str, Any] = {"ignore_unknown_options": True, "allow_interspersed_args": False}
    if verb.tool:
        settings["help_option_names"] = []
    command = click.Command(
        verb.name,
        callback=run,
        params=[click.Argument(["args"], nargs=-1, type=_Word())],
        context_settings=settings,
    )
    command.format_help = lambda ctx, formatter: formatter.write(  # type: ignore[method-assign]
        _help_page(verb)
    )
    return command


def _help_page(verb: Verb) -> str:
    return f"{verbs.usage(verb.name)}\n\n{verb.help}\n"


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

        try:
            number = version(PROGRAM)
        except PackageNotFoundError:
            number = "0 (not installed)"
        click.echo(f"bottomhalf {number}")
        ctx.exit()


@click.command(
    PROGRAM,
    cls=_Grammar,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--on",
    metavar="NAME",
    help="machine to talk to, when several run; gateway: the host behind its switch",
)
@click.option("--json", "as_json", is_flag=True, help="the answer as JSON")
@click.option("--cpu", metavar="CPU", help="where a program of the machine runs")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version)
@click.pass_context
def grammar(ctx: click.Context, on: str | None, as_json: bool, cpu: str | None) -> int:
    """Options before the verb; without a verb the overview."""
    ctx.obj = Options(on, as_json, cpu)
    if ctx.invoked_subcommand is None:
        click.echo(overview(), nl=False)
    return OK


def perform(verb: Verb, options: Options, argv: list[str]) -> int:
    """Run one verb. That nobody reads its output any more (``| head``) is no failure; click would
    make it exit code 1."""
    try:
        return _perform(verb, options, argv)
    except BrokenPipeError:
        nobody_reads()
        return OK


def _perform(verb: Verb, options: Options, argv: list[str]) -> int:
    """By itself, or against the running machine."""
    if verb.layer == "whole":
        code: int = verbs.load(verb)(options, argv)
        return code
    if verb.tool and argv == ["--help"]:
        click.echo(_help_page(verb), nl=False)
        return OK
    if verb.name == "tcpdump":
        from orchestrator.captures import tcpdumpread  # noqa: PLC0415

        wish = tcpdumpread.offline(argv)
        if wish is not None:
            return tcpdumpread.read_file(wish)
    from orchestrator.machines import running  # noqa: PLC0415
    from orchestrator.session import Session, drive, terminal_width  # noqa: PLC0415

    name, host = _where(options.on)
    with running.connect(name, host) as machine:
        cpu = _of_host(host, verb) if host else _cpu(machine.settings, options.cpu)
        session = Session(machine, json=options.json, terminal=sys.stderr.isatty(), cpu=cpu)
        session.width = terminal_width()
        session.on = f"--on {options.on} " if options.on else ""
        machine.catch_signals(session.signals, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
        return drive(session, verbs.start(session, [verb.name, *argv]))


def _cpu(settings: MachineSettings, wanted: str | None) -> str:
    """The CPU where programs run; a guest's are none of ours."""
    from orchestrator.machines.machine import GUEST_PLACE  # noqa: PLC0415

    names = settings.cpu_names
    if wanted is None:
        return names[0] if names else GUEST_PLACE
    name = f"cpu{wanted}" if wanted.isdecimal() else wanted
    if name not in names:
        what = f"CPUs are {words(names)}" if names else "its CPUs are its guest's"
        raise BottomhalfError(f"no CPU `{name}`", what)
    return name


def _where(on: str | None) -> tuple[str | None, str]:
    """Machine and host behind its switch: ``gateway``, ``m2/gateway``, or a machine alone."""
    from nodes.machine import GATEWAY  # noqa: PLC0415

    machine, _, host = (on or "").rpartition("/")
    return (machine or None, host) if host == GATEWAY else (on, "")


def _of_host(host: str, verb: Verb) -> str:
    """The node that runs the programs of that host."""
    from nodes.machine import LAN  # noqa: PLC0415

    if verb.name != "ping":
        raise BottomhalfError(
            f"the {host} has no `{verb.name}`", f"it runs ping: bottomhalf --on {host} ping m1"
        )
    return LAN


def _on_uplink(name: str | None, argv: Sequence[str]) -> None:
    """A program of this host in the namespace of the machine's TAP uplink: never returns."""
    from orchestrator.machines import running, uplink  # noqa: PLC0415

    uplink.run(running.find(name, "uplink").directory, argv)


def run(argv: Sequence[str]) -> int:
    """One command line; raises what ``guard`` turns into two lines."""
    if len(argv) > 2 and argv[0] == "--on" and argv[1].rpartition("/")[2] == "uplink":
        _on_uplink(argv[1].rpartition("/")[0] or None, argv[2:])
    try:
        result = grammar.main(list(argv), prog_name=PROGRAM, standalone_mode=False)
    except click.NoSuchOption as error:
        known = [option for p in grammar.params for option in p.opts]
        raise BottomhalfError(
            f"no option `{error.option_name}`{did_you_mean(error.option_name, known)}",
            f"before the verb: {words(known)} --help",
        ) from None
    except click.UsageError as error:
        raise BottomhalfError(error.format_message().rstrip("."), "bottomhalf --help") from None
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    return result if isinstance(result, int) else OK


def main() -> None:
    """Entry point of the scripts ``bottomhalf`` and ``bh``."""
    code = guard(lambda: run(sys.argv[1:]))
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        nobody_reads()
    sys.exit(code)


__all__ = ["USAGE", "main", "perform", "run"]

if __name__ == "__main__":
    main()
