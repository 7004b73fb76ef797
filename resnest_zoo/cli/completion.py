"""The command `completion`: what a shell needs to complete commands, options, names of models and paths."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from resnest_zoo.extras import load_extra
from resnest_zoo.registry import list_models

SHELLS = ("bash", "zsh", "fish")
_EPILOG = """\
bash:  resnest-zoo completion bash > ~/.local/share/bash-completion/completions/resnest-zoo
zsh:   resnest-zoo completion zsh > ~/.zfunc/_resnest-zoo, with ~/.zfunc in fpath before compinit
fish:  resnest-zoo completion fish > ~/.config/fish/completions/resnest-zoo.fish
"""
# Arguments that take a path, by what the help calls it.
_FOLDERS, _FILES = ("DIR", "RUN", "TARGET"), ("FILE", "INPUT", "PATH|URL")
_NAMES = ("model", "name", "names", "config_file")  # and those that take the name of a model


def add_commands(commands: Any) -> None:
    """Add the parser of `completion`."""
    completion = commands.add_parser(
        "completion",
        help="print what a shell needs to complete the commands",
        description="Print a script that lets a shell complete commands, options, models and paths. Write it "
        "to where the shell looks for such:",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    completion.add_argument("shell", choices=SHELLS, help="which shell")
    completion.set_defaults(run=_completion)


def _completion(args: argparse.Namespace) -> int:
    shtab = load_extra("shtab", "completion")
    from resnest_zoo.cli import _parser

    parser = _parser()
    names = _model_names()
    for action in _actions(parser):
        metavar = action.metavar if isinstance(action.metavar, str) else ""
        if metavar in _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]  # which shtab reads
        elif metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.dest in _NAMES:
            action.complete = names  # type: ignore[attr-defined]
    print(shtab.complete(parser, shell=args.shell))
    return 0


def _model_names() -> dict[str, Any]:
    """Names of models, and files, in the words of each shell."""
    names = " ".join(list_models())
    function = "_resnest_zoo_models"
    bash = f"{function}() {{\n  compgen -W '{names}' -- $1\n  compgen -f -- $1\n}}"
    zsh = f"{function}() {{\n  _alternative 'models:model:({names})' 'files:file:_files'\n}}"
    fish = f"(string split ' ' '{names}'; __fish_complete_path (commandline -ct))"
    return {"bash": function, "zsh": function, "fish": fish, "preamble": {"bash": bash, "zsh": zsh}}


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of a parser and of all commands below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action
