"""Names of clips as tables give them, and the files that they mean.

A name is found where exactly one file fits: with or without ending, with folders in front or not, in upper or lower
case, with either slash, without the zeros in front of a number. Between two files nothing is ever guessed.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from emoshare.core.text import near
from emoshare.data.audio import SUFFIXES
from emoshare.data.labels import Finding, LabelTable

UNRESOLVED = ("filename", "missing wav", "several files for a name")  # kinds of names that no one file fits
MANY = 10  # missing files that a regular expression names
HINTS = 5  # missing files of a table for which the nearest is looked up: it takes a while among many


Places = dict[tuple[str, ...], list[tuple[tuple[str, ...], str]]]  # folder → paths and files in such folders


class Files:
    """Files of a folder, to be found by names."""

    def __init__(self, files: Iterable[str]) -> None:
        self.files = dict.fromkeys(files)

    @cached_property
    def by_last(self) -> dict[str, Places]:
        """A file's name, and its name without ending → its folder, if any → (the components of its path, the file)."""
        index: dict[str, Places] = defaultdict(lambda: defaultdict(list))
        for file in self.files:
            for spelled in {file, without_ending(file)}:
                parts = components(spelled)
                index[parts[-1]][parts[-2:-1]].append((parts, file))
        return index

    @cached_property
    def by_number(self) -> dict[str, Places]:
        """The same by numbers as spreadsheets write them: `7.wav` for `007.wav`."""
        index: dict[str, Places] = defaultdict(lambda: defaultdict(list))
        for last, places in self.by_last.items():
            for folder, files in places.items():
                index[strip_zeros(last)][folder] += files
        return index

    def fitting(self, name: str) -> list[str]:
        """The files that a name may mean: one of both paths is the end of the other."""
        if name in self.files:
            return [name]
        parts = components(name)
        if not parts or ".." in parts:
            return []
        places = self.by_last.get(parts[-1]) or self.by_number.get(strip_zeros(parts[-1]), {})
        near_by = [places.get(folder, []) for folder in (parts[-2:-1], ())] if len(parts) > 1 else places.values()
        folders = parts[-2::-1]
        return sorted({
            file for files in near_by for path, file in files
            if all(a == b for a, b in zip(path[-2::-1], folders))  # noqa: B905
        })  # fmt: skip

    def with_other_ending(self, name: str) -> str | None:
        """A file that has this name but for the ending."""
        parts = components(name)
        alike = self.by_last.get(os.path.splitext(parts[-1])[0]) if parts else None
        return next(iter(alike.values()))[0][1] if alike else None

    def nearest(self, name: str) -> str:
        """A hint at the file of another ending, or else with the name that is most like this one."""
        alike = self.with_other_ending(name)
        return f"; did you mean '{alike}'?" if alike else near(name, list(self.files))


def components(name: str) -> tuple[str, ...]:
    """The folders and the file of a path in either system's spelling, without what may differ: case, quotes, spaces."""
    path = unicodedata.normalize("NFC", name).strip().strip("\"'").replace("\\", "/")
    parts = (" ".join(part.split()).casefold() for part in path.split("/"))
    return tuple(part for part in parts if part not in ("", "."))


def strip_zeros(name: str) -> str:
    """A name that is a number, with an ending or not, without zeros in front."""
    return re.sub(r"^0+(?=\d+(\.\w+)?$)", "", name)


def without_ending(file: str) -> str:
    """A sound file's name without its ending."""
    stem, ending = os.path.splitext(file)
    return stem if ending.lower() in SUFFIXES else file


def list_files(wav: Path) -> list[str]:
    """All files of the wav folder and its folders, by their paths relative to it; not `._a.wav`, which macOS adds."""
    files = []
    for folder, _, names in os.walk(wav):
        prefix = "" if folder == str(wav) else os.path.relpath(folder, wav) + "/"
        files += [prefix + name for name in names if not name.startswith("._")]
    return files


def resolve_names(root: Path, wav: Path, tables: Sequence[LabelTable], listed: Sequence[str]) -> list[Finding]:
    """Put the paths of files in place of the names of tables; what was found otherwise, or not at all, is returned."""
    files = Files(listed)
    findings: list[Finding] = []
    unknown: list[tuple[LabelTable, list[tuple[int, str]]]] = []
    for table in tables:
        renamed: list[tuple[int, str, str]] = []
        missing: list[tuple[int, str]] = []
        for row, (line, name) in enumerate(zip(table.lines, table.files, strict=True)):
            if name in files.files:
                continue
            fit = exact(root, wav, table.name, name, files) or files.fitting(name)
            if len(fit) == 1 and fit[0] != name:
                table.files[row] = fit[0]
                renamed.append((line, name, fit[0]))
            elif len(fit) > 1:
                several = " and ".join(fit[:2]) + (f" and {len(fit) - 2} more" if len(fit) > 2 else "")
                findings.append(Finding(UNRESOLVED[2], table.name, line, f"{name}: {several} fit; name one"))
            elif not fit:
                missing.append((line, name))
        findings += tell_renamed(table, renamed)
        unknown.append((table, missing))
    named = {file for table in tables for file in table.files}
    unnamed = Files(file for file in listed if file not in named)
    remedy = find_remedy([name for _, missing in unknown for _, name in missing], unnamed)
    for table, missing in unknown:
        findings += tell_missing(table, missing, unnamed, remedy)
    return findings


def match_names(table: LabelTable, files: Sequence[str]) -> None:
    """Put the clips of another table in place of the names that mean one of them."""
    known = Files(files)
    fits = [known.fitting(name) for name in table.files]
    table.files = [fit[0] if len(fit) == 1 else name for fit, name in zip(fits, table.files, strict=True)]


def exact(root: Path, wav: Path, table: str, name: str, files: Files) -> list[str]:
    """The file that a path names as it is: from the wav folder, from the table's folder, or absolute."""
    spelled, folder = name.replace("\\", "/"), os.path.normpath(wav) + "/"
    for base in (folder, os.path.join(root, os.path.dirname(table))):
        path = os.path.normpath(os.path.join(base, spelled))
        if path.startswith(folder) and (relative := path.removeprefix(folder)) in files.files:
            return [relative]
    return [name] if name and inside(name) and os.path.lexists(f"{wav}/{name}") else []  # by a link, or no file at all


def inside(name: str) -> bool:
    """Whether a name cannot lead out of the folder."""
    return not name.startswith(("/", "\\")) and ".." not in name.replace("\\", "/").split("/")


def tell_renamed(table: LabelTable, renamed: Sequence[tuple[int, str, str]]) -> Iterator[Finding]:
    """One oddity for all names of a table that are not those of the files."""
    if renamed:
        line, name, file = renamed[0]
        kind = "file name spelled otherwise in the table: the only file that fits is taken"
        yield Finding(kind, table.name, line, f"{name} is {file}", error=False, count=len(renamed))


def tell_missing(
    table: LabelTable, missing: Sequence[tuple[int, str]], unnamed: Files, remedy: str
) -> Iterator[Finding]:
    """An error for each name that no file fits. unnamed: the files that no row names, which may be meant."""
    for number, (line, name) in enumerate(missing):
        hint = unnamed.nearest(name) if number < HINTS else ""
        if number == 0:
            hint = f"{hint} {remedy}" if hint else f"; {remedy[0].lower()}{remedy[1:]}"
        if not name or not inside(name):
            yield Finding(UNRESOLVED[0], table.name, line, f"'{name}' is no file inside the wav folder{hint}")
        else:
            yield Finding(UNRESOLVED[1], table.name, line, f"{name}: no such file in the wav folder{hint}")


def find_remedy(names: Sequence[str], unnamed: Files) -> str:
    """The remedy for names that no file fits, with an override as a shell takes it where one does."""
    different = list(dict.fromkeys(names))
    [ending, *others] = {os.path.splitext(name)[1] for name in different} or {""}
    if not others and re.fullmatch(r"\.\w+", ending) and all(map(unnamed.with_other_ending, different)):
        return f"Leave the ending out: \"data.pattern='(?P<filename>.+)\\{ending}'\""
    if len(different) > MANY or any(sign in name for name in different for sign in "'\"\\"):
        return "Add the files, or delete the rows"
    listed = "|".join(re.sub(r"([.^$*+?{}\[\]|()])", r"\\\1", name) for name in different)
    return f"Add the files, or leave their rows out: 'data.rows={{filename: \"(?!({listed})$).*\"}}'"
