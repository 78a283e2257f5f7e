"""A parser that tells mistakes in one line and guesses what was meant; keys may stand anywhere among the arguments."""

import argparse
import difflib
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

_KEY_AND_VALUE = re.compile(r"[A-Za-z_][\w.]*=")
_USER_MISTAKE = 2


class Parser(argparse.ArgumentParser):
    """Parses a command line; where it cannot, it says why on one line and ends with code 2."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: None = None) -> Any:  # type: ignore[override]
        """As argparse does, with `key=value` anywhere, as after an option that takes several values.

        They are the namespace's `overrides`, of a command that has them; `words` are all that was given.
        """
        words = list(sys.argv[1:] if args is None else args)
        keys = [word for word in words if _KEY_AND_VALUE.match(word)] if self._takes_keys(words) else []
        found, rest = self.parse_known_args([word for word in words if word not in keys], namespace)
        if rest:
            self.error(_unrecognized(rest, self._options(words)))
        if keys:
            found.overrides = [*keys, *found.overrides]
        found.words = words
        return found

    def error(self, message: str) -> NoReturn:
        """Say it and end."""
        self.exit(_USER_MISTAKE, f"{self.prog}: {message} ({self.prog} --help)\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = list(map(str, action.choices))
            raise argparse.ArgumentError(None, f"no {_what(action)} {value!r}{_guess(value, known, known)}")

    def _commanded(self, words: Sequence[str]) -> argparse.ArgumentParser:
        """The parser of the command that the words name, or this one."""
        commands = {name: one for action in self._actions for name, one in _subparsers(action)}
        return next((commands[word] for word in words if word in commands), self)

    def _takes_keys(self, words: Sequence[str]) -> bool:
        return any(action.dest == "overrides" for action in self._commanded(words)._actions)

    def _options(self, words: Sequence[str]) -> list[str]:
        return list(self._commanded(words)._option_string_actions)


def leave_unread() -> None:
    """Let what is still to be printed go nowhere: its reader has gone, as `head` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _subparsers(action: argparse.Action) -> Iterable[tuple[str, argparse.ArgumentParser]]:
    return action.choices.items() if isinstance(action, argparse._SubParsersAction) else ()


def _what(action: argparse.Action) -> str:
    return str(action.metavar or action.dest).lower()


def _unrecognized(rest: Sequence[str], options: Sequence[str]) -> str:
    word = rest[0]
    if "=" in word and word.startswith("-") and word.partition("=")[0] not in options:
        return f"unknown option {word!r}: keys are given without dashes, as {word.lstrip('-')!r}"
    if word.startswith("-"):
        return f"unknown option {word!r}{_guess(word, options, [])}"
    return f"unexpected argument {word!r}"


def _guess(word: str, known: Sequence[str], otherwise: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if near:
        return f": did you mean {near[0]!r}?"
    return f" (one of {', '.join(otherwise)})" if otherwise else ""
