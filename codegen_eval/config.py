"""Strict configurations: a pydantic model, filled from a YAML file and from the command line; flags win.

An unknown key is an error with the nearest known name, wherever it comes from.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, cast

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from codegen_eval.errors import CodealignError, unknown

# What a configuration refused last. tyro turns pydantic's error into text; `Config.parse` wants its entries.
_refused: ContextVar[ValidationError | None] = ContextVar("_refused", default=None)
_BOX = re.compile("[\u2500-\u257f]+")


class Config(BaseModel):
    """Base of every command's configuration: frozen, and nothing but the declared keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=False, allow_inf_nan=False)

    # Keys that change where or how fast a job runs, never what it makes: a run resumes with other values.
    not_identity: ClassVar[frozenset[str]] = frozenset({"out", "overwrite", "workers"})

    @classmethod
    def parse(cls, argv: Sequence[str], *, prog: str, description: str) -> Self:
        """Reads command-line flags over an optional `--config FILE.yaml`.

        Args:
            argv: The arguments after the command's name.
            prog: What the help shows as the command.
            description: What the command does, for its help.

        Returns:
            The checked configuration.

        Raises:
            CodealignError: For an unknown key or flag, a missing required one, or a value that does not fit.
            SystemExit: With status 0 after `--help`.
        """
        file, rest = _take_config_flag(argv)
        given = _check_flags(cls, rest)
        values = _coerced(cls, read_yaml(file), str(file)) if file else {}
        if not given & {"help", "h"}:
            absent = [
                f"--{name.replace('_', '-')}"
                for name, field in cls.model_fields.items()
                if field.is_required() and name not in values and name.replace("_", "-") not in given
            ]
            if absent:
                raise CodealignError(f"required: {', '.join(absent)}; see `{prog} --help`")
        return cls._from_flags(rest, values, prog, description)

    @classmethod
    def _from_flags(cls, argv: list[str], values: dict[str, Any], prog: str, description: str) -> Self:
        """The command line, read by tyro, over `values`, its complaints as a CodealignError."""
        import tyro

        fields: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            missing = tyro.MISSING if field.is_required() else field.get_default(call_default_factory=True)
            fields[name] = values.get(name, missing)
        about_files = "--config FILE.yaml sets the defaults of all options below."
        said = io.StringIO()
        _refused.set(None)
        try:
            with contextlib.redirect_stderr(said):
                config: Any = tyro.cli(
                    cls,
                    args=argv,
                    default=cls.model_construct(**fields),
                    prog=prog,
                    description=f"{description}\n\n{about_files}",
                )
        except (SystemExit, ValidationError) as stop:
            error = _refused.get()
            if error is not None:
                raise _explain(error.errors(), cls, "") from None
            if isinstance(stop, SystemExit) and stop.code != 2:
                raise
            raise CodealignError(_unboxed(said.getvalue())) from None
        return cast(Self, config)

    @model_validator(mode="wrap")
    @classmethod
    def _remember(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            _refused.set(error)
            raise

    def identity(self) -> dict[str, Any]:
        """The keys and plain values that decide what the job makes; a run resumes only if they agree."""
        return self.model_dump(mode="json", exclude=set(self.not_identity))


C = TypeVar("C", bound=Config)


def load_config(path: Path, cls: type[C], overrides: Mapping[str, Any] | None = None) -> C:
    """Reads a YAML file into `cls`.

    Args:
        path: A file holding one YAML mapping.
        cls: The configuration's class.
        overrides: Values that win over the file's.

    Raises:
        CodealignError: For a missing or broken file, an unknown key (with the nearest name), a bad value.
    """
    values = {**read_yaml(path), **(overrides or {})}
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise _explain(error.errors(), cls, f"{path}: ") from None


def to_yaml(config: BaseModel | Mapping[str, Any]) -> str:
    """The configuration as YAML text, keys in their declared order."""
    values = config.model_dump(mode="json") if isinstance(config, BaseModel) else dict(config)
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader, except that a key given twice is an error: PyYAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        CodealignError: For a missing or broken file, or one that holds no mapping of names.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # noqa: TID251 - a SafeLoader
    except FileNotFoundError:
        raise CodealignError(f"no such config file: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CodealignError(f"cannot read the config file {path}: {error}") from None
    except yaml.YAMLError as error:
        raise CodealignError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise CodealignError(f"{path} must hold one mapping of option names to values")
    return values


def _take_config_flag(argv: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Splits `--config FILE` off the arguments; given twice is an error."""
    rest: list[str] = []
    files: list[str] = []
    pending = iter(argv)
    for argument in pending:
        if argument == "--config":
            value = next(pending, None)
            if value is None:
                raise CodealignError("--config needs a file name")
            files.append(value)
        elif argument.startswith("--config="):
            files.append(argument.removeprefix("--config="))
        else:
            rest.append(argument)
    if len(files) > 1:
        raise CodealignError(f"--config is given {len(files)} times; give one file")
    return (Path(files[0]) if files else None), rest


def _check_flags(cls: type[Config], argv: Sequence[str]) -> set[str]:
    """The flags that are given; one that no field has is refused with the nearest name, unlike by tyro."""
    known = {name.replace("_", "-") for name in cls.model_fields}
    given = {"h"} & {argument.removeprefix("-") for argument in argv}
    for argument in argv:
        if not argument.startswith("--") or argument == "--":
            continue
        flag = argument[2:].partition("=")[0].partition(".")[0].replace("_", "-")
        if flag not in known and flag.removeprefix("no-") not in known and flag != "help":
            raise unknown("option", f"--{flag}", {f"--{name}" for name in known | {"config"}})
        given.add(flag)
    return given


def _unboxed(text: str) -> str:
    """What tyro wrote into its box, in one line, without the part after the rule (where help is found)."""
    lines: list[str] = []
    for line in text.splitlines()[1:]:
        words = _BOX.sub(" ", line).split()
        if not words and "\u2500" in line:
            break
        lines += words
    return " ".join(lines) or " ".join(text.split())


def _coerced(cls: type[Config], values: dict[str, Any], source: str) -> dict[str, Any]:
    """Checks a file's values while required keys may still come from the command line."""
    try:
        cls.model_validate(values)
    except ValidationError as error:
        real = [e for e in error.errors() if not (e["type"] == "missing" and len(e["loc"]) == 1)]
        if real:
            raise _explain(real, cls, f"{source}: ") from None
    return {
        name: TypeAdapter[Any](cls.model_fields[name].annotation or Any).validate_python(value)
        for name, value in values.items()
    }


def _explain(entries: Sequence[ErrorDetails], cls: type[BaseModel], source: str) -> CodealignError:
    """One line for each thing that pydantic found, in our words where it is a key.

    Args:
        entries: pydantic's findings.
        cls: The configuration's class.
        source: The file's name and a colon; empty for the command line, whose options are named as such.
    """
    lines = []
    for entry in entries:
        *parents, last = entry["loc"] or ("",)
        key = ".".join(str(part) for part in entry["loc"])
        name = f"config key {key!r}" if source else f"--{key.replace('_', '-')}"
        if entry["type"] == "extra_forbidden":
            lines.append(str(unknown("config key", str(last), _keys_at(cls, parents))))
        elif entry["type"] == "missing":
            lines.append(f"{name} is required")
        else:
            message = entry["msg"].removeprefix("Value error, ")
            lines.append(f"{name + ': ' if key else ''}{message} (given: {_short(entry['input'])})")
    return CodealignError(source + "\n  ".join(lines))


def _keys_at(cls: type[BaseModel], parents: Sequence[str | int]) -> list[str]:
    """The keys that the (nested) model at `parents` knows."""
    for part in parents:
        field = cls.model_fields.get(str(part))
        if (
            field is None
            or not isinstance(field.annotation, type)
            or not issubclass(field.annotation, BaseModel)
        ):
            return []
        cls = field.annotation
    return list(cls.model_fields)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
