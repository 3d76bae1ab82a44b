"""The program as typer sees it; the commands register themselves in it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from edgeqwt.commands.panels import headed
from edgeqwt.disk import keep_apart
from edgeqwt.extras import versions_of
from edgeqwt.output import loudness

EXIT_CODES = (
    "Exit codes: 0 done; 2 a file, sample or option cannot be used; 3 the recipe is wrong; 4 an op has no integer "
    "form; 5 a program that edgeqwt calls failed; 6 the conversion changed the model; 7 the target does not take the "
    "model, or it costs more than its budget; 8 the integer model is too far from the float one; 70 a bug in edgeqwt; "
    "1 anything else, such as too little memory; 130 interrupted."
)
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but errors, and JSON where --json asks for it.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print all layers, ops and samples, not the worst alone.")
]


WRITTEN = {"output", "report", "html"}
"""Parameters that name what a command writes."""
IN_PLACE = {"compensate": {"model"}}
"""Those whose files a command may write over, by its name: an integer file is repaired where it lies."""


class _Help:
    """Options under the headings of their panels, where there are many; then examples as they are typed."""

    epilog: str | None

    def format_usage(self: Any, ctx: Any, formatter: Any) -> None:
        listed = [param for param in self.get_params(ctx) if _is_argument(param)]
        names = [param.metavar if param.required else f"[{param.metavar}]" for param in listed]
        more = ["COMMAND [ARGS]..."] if hasattr(self, "format_commands") else []
        formatter.write_usage(ctx.command_path, " ".join(["[OPTIONS]", *names, *more]))

    def format_options(self: Any, ctx: Any, formatter: Any) -> None:
        for heading, listed in headed(param for param in self.get_params(ctx) if param.get_help_record(ctx)).items():
            with formatter.section(heading):
                formatter.write_dl([_record(param, ctx) for param in listed])
        if hasattr(self, "format_commands"):
            self.format_commands(ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.splitlines():
                    formatter.write(f"  {line}\n")


def _is_argument(param: Any) -> bool:
    return bool(param.param_type_name == "argument")


def _record(param: Any, ctx: Any) -> tuple[str, str]:
    """A parameter and its meaning; arguments without the braces and Python types that typer shows with them."""
    name, meaning = param.get_help_record(ctx)
    return (param.metavar if _is_argument(param) else name), meaning


class Command(_Help, typer.core.TyperCommand):
    """A command."""

    def invoke(self, ctx: Any) -> Any:
        """Runs it, unless it would write over what it reads.

        Raises:
            InputError: an output is one of the files that other parameters name.
        """
        read = [
            value for name, value in ctx.params.items() if name not in WRITTEN | IN_PLACE.get(str(self.name), set())
        ]
        named = [path for value in read for path in (value if isinstance(value, list | tuple) else [value])]
        for name in WRITTEN & ctx.params.keys():
            if ctx.params[name]:
                keep_apart(Path(ctx.params[name]), named)
        return super().invoke(ctx)


class Group(_Help, typer.core.TyperGroup):
    """A command that has others."""


class Running(Group):
    """A command that has others, of which `run` is the one that is meant where none is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """What is no command's name are the arguments of `run`."""
        meant = bool(args) and args[0] not in self.commands and args[0] not in ctx.help_option_names
        return super().parse_args(ctx, ["run", *args] if meant else args)


app = typer.Typer(
    rich_markup_mode=None,  # plain help: typer's boxes leave no space for the text
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
    help="PyTorch to proved, compensated full-integer TFLite models, for phones, NPUs and microcontrollers.",
    epilog=EXIT_CODES,
)


def command[**P](*examples: str, of: typer.Typer = app) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Registers a command, with --quiet and --verbose.

    Args:
        examples: command lines, which its help ends with.
        of: what it is a command of.
    """

    def register(function: Callable[P, None]) -> Callable[P, None]:
        of.command(cls=Command, epilog="\n".join(examples))(with_loudness(function))
        return function

    return register


def group(
    name: str, *examples: str, cls: type[Group] = Group, alone: bool = True
) -> Callable[[Callable[..., None]], typer.Typer]:
    """Registers a command that has others; the function is what it does alone.

    Args:
        name: of the command.
        examples: as for `command`.
        cls: of the group.
        alone: whether it does something alone; else it shows its help.
    """

    def register(function: Callable[..., None]) -> typer.Typer:
        made = typer.Typer(cls=cls, epilog="\n".join(examples), invoke_without_command=alone, no_args_is_help=not alone)
        made.callback()(with_loudness(function))
        app.add_typer(made, name=name)
        return made

    return register


def with_loudness(function: Callable[..., None]) -> Callable[..., None]:
    """A command that takes --quiet and --verbose besides, and prints accordingly."""

    @wraps(function)
    def run(*args: Any, quiet: bool, verbose: bool, **options: Any) -> None:
        if quiet and verbose:
            raise typer.BadParameter("--quiet and --verbose exclude each other")
        with loudness(quiet, verbose):
            function(*args, **options)

    kinds = {"quiet": Quiet, "verbose": Verbose}
    plain = inspect.signature(function, eval_str=True)
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in kinds.items()
    ]
    setattr(run, "__signature__", plain.replace(parameters=[*plain.parameters.values(), *more]))  # noqa: B010
    run.__annotations__ = {**function.__annotations__, **kinds}
    return run


def _version(wanted: bool) -> None:
    if wanted:
        found = versions_of("edgeqwt").get("edgeqwt")
        print("edgeqwt, run from a checkout that is not installed" if found is None else f"edgeqwt {found}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options that go before the command; the text is the app's."""
