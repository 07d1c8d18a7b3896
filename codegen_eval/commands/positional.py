"""Command lines whose first words need no flag: `codealign compare A B`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from codegen_eval.config import Config
from codegen_eval.errors import CodealignError


def with_flags(argv: Sequence[str], names: Sequence[str], cls: type[Config]) -> list[str]:
    """Puts a flag before each word that has none: `A B --common` becomes `--a A --b B --common`.

    `--json` becomes `--json-file`, because pydantic's models have a method `json`.

    Args:
        argv: The arguments after the command's name.
        names: The fields that the words are for, in order.
        cls: The configuration; its fields of type bool take no value, all others take one.

    Raises:
        CodealignError: For more words than names.
    """
    named: list[str] = []
    words: list[str] = []
    takes_value = False
    for word in argv:
        argument = re.sub("^--json(?==|$)", "--json-file", word)
        if takes_value or argument.startswith("-"):
            named.append(word if takes_value else argument)
            takes_value = not takes_value and _takes_value(argument, cls)
        else:
            words.append(word)
    if len(words) > len(names):
        raise CodealignError(
            f"expected {' and '.join(name.upper() for name in names)}, got {len(words)} names: "
            + ", ".join(map(repr, words))
        )
    return [part for name, word in zip(names, words, strict=False) for part in (f"--{name}", word)] + named


def _takes_value(flag: str, cls: type[Config]) -> bool:
    if "=" in flag or flag in ("-h", "--help"):
        return False
    name = flag.removeprefix("--").replace("-", "_")
    field = cls.model_fields.get(name) or cls.model_fields.get(name.removeprefix("no_"))
    return field is None or field.annotation is not bool
