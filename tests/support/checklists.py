"""The checklists of CONTRIBUTING.md: sections of files to write, edits to make, and commands with what they print."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """A line for the shell, and what of its output the checklist shows."""

    line: str
    shown: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Checklist:
    """A task.

    Attributes:
        new: path -> text of files to write.
        edits: (path, old text, new text).
        commands: to run then.
    """

    new: dict[str, str]
    edits: list[tuple[str, str, str]]
    commands: list[Command]

    @property
    def touched(self) -> set[str]:
        """Paths of the files that are written or edited."""
        return {*self.new, *(path for path, _, _ in self.edits)}

    def write(self, root: Path) -> None:
        """Write the files below a copy of the project, and make the edits; old text must be there exactly once."""
        for path, text in self.new.items():
            assert not (root / path).exists(), f"{path} is there already"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        for path, old, new in self.edits:
            text = (root / path).read_text(encoding="utf-8")
            assert text.count(old) == 1, f"{path} has {text.count(old)} times:\n{old}"
            (root / path).write_text(text.replace(old, new), encoding="utf-8")


def read_checklists(text: str) -> dict[str, Checklist]:
    """Title of a section -> its checklist, of those that have one."""
    found = {title: _checklist(body) for title, body in _SECTION.findall(text)}
    return {title: one for title, one in found.items() if one.touched}


def _checklist(body: str) -> Checklist:
    new: dict[str, str] = {}
    edits, commands = [], []
    for kind, path, text in _FENCE.findall(body):
        if kind == "console":
            commands += _commands(text)
        elif kind == "diff":
            edits += [(path, *hunk) for hunk in _hunks(text)]
        elif path:
            new[path] = text
    return Checklist(new, edits, commands)


def _hunks(text: str) -> Iterator[tuple[str, str]]:
    """The parts between lines `...`, each as its old and its new text."""
    for hunk in re.split(r"^\.\.\.\n", text, flags=re.MULTILINE):
        lines = [line or " " for line in hunk.splitlines()]
        old, new = ("".join(f"{line[1:]}\n" for line in lines if line[0] in kept) for kept in (" -", " +"))
        yield old, new


def _commands(text: str) -> list[Command]:
    commands: list[Command] = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            commands.append(Command(line.removeprefix("$ ")))
        elif line.strip() not in ("", "..."):
            commands[-1].shown.append(" ".join(line.split()))
    return commands
