"""Configurations: files, flags, and everything that does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from codegen_eval.config import Config, load_config, to_yaml
from codegen_eval.errors import CodealignError


class Inner(Config):
    """A nested mapping."""

    depth: int = Field(default=1, ge=0)


class Job(Config):
    """A job."""

    samples: Path
    """where they are"""
    k: tuple[int, ...] = (1, 10)
    learning_rate: float = Field(default=1e-4, gt=0)
    efficiency: bool = True
    dataset: Path | None = None
    seed: int = 0
    out: Path = Path("out")
    inner: Inner = Inner()


def parse(*argv: str) -> Job:
    return Job.parse(argv, prog="codealign job", description="Does it.")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "job.yaml"


def test_flags_win_over_the_file_and_the_file_over_defaults(file: Path) -> None:
    file.write_text("samples: a.jsonl\nk: [3]\nlearning_rate: 1e-5\nseed: 7\n")
    config = parse("--config", str(file), "--seed", "8", "--no-efficiency")
    assert config.model_dump(exclude={"inner", "out", "dataset"}) == {
        "samples": Path("a.jsonl"),
        "k": (3,),
        "learning_rate": 1e-5,
        "seed": 8,
        "efficiency": False,
    }


def test_a_required_key_may_come_from_either_side(file: Path) -> None:
    file.write_text("seed: 7\n")
    assert parse(f"--config={file}", "--samples", "b").samples == Path("b")
    with pytest.raises(CodealignError, match=r"^required: --samples; see `codealign job --help`$"):
        parse("--config", str(file))


def test_underscores_and_hyphens_and_nested_keys_are_understood() -> None:
    assert parse("--samples", "a", "--learning_rate", "0.5").learning_rate == 0.5
    assert parse("--samples", "a", "--learning-rate=0.5", "--inner.depth", "3").inner.depth == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("samples: a\nsede: 1\n", "unknown config key 'sede'; did you mean 'seed'"),
        ("samples: a\ninner: {dept: 1}\n", "unknown config key 'dept'; did you mean 'depth'"),
        ("samples: a\nseed: many\n", r"config key 'seed': .*integer.*'many'"),
        ("samples: a\nlearning_rate: -1\n", "config key 'learning_rate': .*greater than 0"),
        ("samples: a\nseed: 1\nseed: 2\n", "key 'seed' is given twice"),
        ("samples: [a\n", "not valid YAML"),
        ("- samples\n", "must hold one mapping"),
        ("samples: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ],
)
def test_what_does_not_fit_is_named(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    for read in (lambda: parse("--config", str(file)), lambda: load_config(file, Job)):
        with pytest.raises(CodealignError, match=message):
            read()


def test_unknown_flag_gets_the_nearest_name() -> None:
    with pytest.raises(CodealignError, match=r"unknown option '--sample'; did you mean '--samples'"):
        parse("--sample", "x")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--learning-rate", "0"], r"^--learning-rate: Input should be greater than 0 \(given: 0.0\)$"),
        (["--learning-rate", "nan"], r"^--learning-rate: .*finite number \(given: nan\)$"),
        (["--learning-rate", "inf"], r"^--learning-rate: .*finite number \(given: inf\)$"),
        (["--inner.depth", "-1"], r"^--depth: Input should be greater than or equal to 0 \(given: -1\)$"),
        (["--seed", "x"], r"--seed.*'x'"),
        (["--seed"], "--seed"),
        (["extra"], "extra"),
    ],
)
def test_a_value_on_the_command_line_that_does_not_fit_is_one_plain_line(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CodealignError, match=message) as found:
        parse("--samples", "a", *argv)
    said = str(found.value)
    assert "\n" not in said and "pydantic" not in said and "\u2502" not in said
    assert capsys.readouterr() == ("", "")


def test_only_what_the_file_has_wrong_is_named_when_flags_may_give_the_rest(file: Path) -> None:
    file.write_text("sede: 1\n")
    with pytest.raises(CodealignError) as found:
        parse("--config", str(file), "--samples", "a")
    assert "required" not in str(found.value) and "sede" in str(found.value)


def test_help_needs_no_required_option(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--help", "-h"):
        with pytest.raises(SystemExit) as stop:
            parse(flag)
        assert stop.value.code == 0 and "--samples" in capsys.readouterr().out


def test_missing_file_and_missing_required_key_are_errors(file: Path) -> None:
    with pytest.raises(CodealignError, match="no such config file"):
        parse("--config", str(file))
    with pytest.raises(CodealignError, match="--config needs a file name"):
        parse("--config")
    with pytest.raises(CodealignError, match="2 times"):
        parse("--config=a", "--config", "b")
    file.write_text("")
    with pytest.raises(CodealignError, match="config key 'samples' is required"):
        load_config(file, Job)


def test_yaml_round_trip(file: Path) -> None:
    config = parse("--samples", "ü.jsonl", "--k", "1", "5")
    file.write_text(to_yaml(config))
    assert load_config(file, Job) == config
    assert load_config(file, Job, {"seed": 3}).seed == 3


def test_identity_leaves_out_where_and_how_fast() -> None:
    identity = parse("--samples", "a", "--out", "x").identity()
    assert "out" not in identity and identity["samples"] == "a" and identity["k"] == [1, 10]


def test_configurations_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse("--samples", "a").seed = 3  # type: ignore[misc]
