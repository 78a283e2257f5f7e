"""`exdd completion`: a script for the shell: commands, options, bundled configs, keys and their values."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SHELLS = ("bash", "zsh", "fish")
_HELP = 'print what a shell completes `exdd` with: eval "$(exdd completion bash)", or exdd completion fish | source'

_BASH = """_exdd() {{
    local cur="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words="" keys="" key="" whole=""
    if [[ $cur == "=" ]]; then
        key=$before cur=""
    elif [[ $before == "=" ]]; then
        key=${{COMP_WORDS[COMP_CWORD-2]}}
    elif [[ $cur == *=* ]]; then
        key=${{cur%%=*}} cur=${{cur#*=}} whole="$key="
    fi
    if [[ -n $key ]]; then
        case $key in
{values}
        esac
        COMPREPLY=($(compgen -P "$whole" -S " " -W "$words" -- "$cur"))
        return
    fi
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -S " " -W "{commands}" -- "$cur"))
        return
    fi
    case ${{COMP_WORDS[1]}} in
{words}
    esac
    COMPREPLY=($(compgen -W "$keys" -- "$cur") $(compgen -S " " -W "$words" -- "$cur") $(compgen -f -- "$cur"))
}}
complete -o nospace -F _exdd exdd
"""


@dataclass(frozen=True)
class _Command:
    """What may follow a command: words, and keys with the values that they may have, if these are few."""

    name: str
    words: tuple[str, ...]
    keys: dict[str, tuple[str, ...]]


def add_completion_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `completion` to the command line."""
    parser = subparsers.add_parser("completion", help="print the completion of a shell", description=_HELP)
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    parser.set_defaults(run=lambda arguments: print_completion(arguments.shell, subparsers.choices))


def print_completion(shell: str, commands: "dict[str, argparse.ArgumentParser]") -> int:
    """Print the script."""
    found = [_command(name, parser) for name, parser in commands.items()]
    if shell == "fish":
        print("\n".join(_fish(found)))
    else:
        print("autoload -U +X bashcompinit && bashcompinit\n" * (shell == "zsh") + _bash(found), end="")
    return 0


def _command(name: str, parser: argparse.ArgumentParser) -> _Command:
    from exdd_ray.config.bundled import bundled_names

    words = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    words += [str(choice) for action in parser._actions for choice in action.choices or ()]
    kinds = parser.get_default("kinds") or parser.get_default("offered") or ()
    words += [name for kind in kinds for name in bundled_names(kind)]
    return _Command(name, tuple(words), _keys(parser))


def _keys(parser: argparse.ArgumentParser) -> dict[str, tuple[str, ...]]:
    from exdd_ray.cli.help import config_model
    from exdd_ray.config.keys import list_keys

    found: dict[str, tuple[str, ...]] = {}
    for key in list_keys(config_model(parser)) if parser.get_default("kinds") else ():
        found[key.path] = tuple(dict.fromkeys((*found.get(key.path, ()), *_values(key.type))))
    return found


def _values(type_name: str) -> tuple[str, ...]:
    """The values of a choice."""
    if type_name == "bool":
        return "true", "false"
    return tuple(type_name.replace(" or ", " | ").split(" | ")) if "|" in type_name and "[" not in type_name else ()


def _bash(commands: Sequence[_Command]) -> str:
    values = {key: those for one in commands for key, those in one.keys.items() if those}
    return _BASH.format(
        commands=" ".join(one.name for one in commands),
        values="\n".join(f'            {key}) words="{" ".join(those)}" ;;' for key, those in values.items()),
        words="\n".join(
            f'        {one.name}) words="{" ".join(one.words)}" keys="{" ".join(f"{key}=" for key in one.keys)}" ;;'
            for one in commands
        ),
    )


def _fish(commands: Sequence[_Command]) -> Iterator[str]:
    yield f"complete -c exdd -n __fish_use_subcommand -f -a '{' '.join(one.name for one in commands)}'"
    for one in commands:
        keys = [f"{key}={value}" for key, values in one.keys.items() for value in values or ("",)]
        plain = [word for word in one.words if not word.startswith("--")]
        yield f"complete -c exdd -n '__fish_seen_subcommand_from {one.name}' -a '{' '.join([*plain, *keys])}'"
        for word in one.words:
            if word.startswith("--"):
                yield f"complete -c exdd -n '__fish_seen_subcommand_from {one.name}' -l {word.removeprefix('--')}"
