"""Languages by name, and what is said where a toolchain is missing."""

import os
import stat

import pytest

from sandbox import CallTest, CodeTest, IOTest, Limits, Program, Sandbox, Verdict, languages, orders
from sandbox.languages import base
from sandbox.languages.java import class_names
from tests.sandbox.languages import cases


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("py", "python"),
        ("c++", "cpp"),
        ("js", "javascript"),
        ("node", "javascript"),
        ("java", "java"),
        ("c", "c"),
    ],
)
def test_aliases_lead_to_their_language(alias, name):
    assert languages.get(alias).name == name


def test_a_miss_lists_what_there_is_with_the_nearest_name():
    with pytest.raises(
        ValueError, match=r"unknown language 'pyhton'; did you mean 'python'\? There are: c, cpp, java"
    ):
        Program("x", "", (IOTest("", ""),), language="pyhton")
    with pytest.raises(ValueError, match="There are: c, cpp, java, javascript, python"):
        languages.get("qqqq")
    with pytest.raises(ValueError):
        languages.get(None)


def test_a_name_that_belongs_to_another_language_is_refused():
    with pytest.raises(ValueError, match="belongs to Cpp"):

        @languages.register
        class Other(base.Language):
            name = "other"
            aliases = ("c++",)


def test_a_missing_toolchain_is_an_error_that_says_how_to_get_it():
    class Lacking(base.Language):
        name, commands, remedy = "lacking", ("no-such-compiler",), "apt install no-such"

    with pytest.raises(
        languages.LanguageUnavailable, match=r"'no-such-compiler'.*not on the PATH: apt install no-such"
    ):
        Lacking().plan("", Limits())


def test_a_toolchain_that_is_too_old_is_an_error(tmp_path, monkeypatch):
    fake = tmp_path / "oldcc"
    fake.write_text("#!/bin/sh\necho oldcc 3.4.6\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    class Old(base.Language):
        name, commands, remedy, minimum = "old", ("oldcc",), "get a newer one", (9,)

    with pytest.raises(languages.LanguageUnavailable, match=r"oldcc 9 or later.*3\.4\.6.*get a newer one"):
        Old().toolchain()


def test_a_toolchain_that_says_nothing_is_an_error(tmp_path, monkeypatch):
    fake = tmp_path / "mute"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    class Mute(base.Language):
        name, commands = "mute", ("mute",)

    with pytest.raises(languages.LanguageUnavailable, match="said nothing"):
        Mute().toolchain()


def test_levels_that_refuse_exec_refuse_other_languages_by_name():
    program = Program("int main() {}", "", (IOTest("", ""),), language="c")
    with pytest.raises(
        languages.LanguageUnavailable, match="programs in c run at the levels full and process only"
    ):
        orders.command(program, 1, Limits(), True, "seccomp")


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("public class A { public static void main(String[] a) {} }", ("A", "A")),
        ("class A { public static void main(String[] a) {} }", ("A", "A")),
        ("public class A {} class B { static public void main(String[] a) {} }", ("A", "A")),
        ("public class A {} class B { public static void main(String[] a) {} }", ("A", "B")),
        ("package x.y; public final class A { public static void main(String[] a) {} }", ("A", "x.y.A")),
        ('// public class No {\npublic class A { String s = "public class No {"; }', ("A", "A")),
        ("/* } */ class A { class B { } public static final void main(String[] a) {} }", ("A", "A")),
        ("", ("Main", "Main")),
        (
            "interface I { } enum E { X } record R(int a) { public static void main(String[] a) {} }",
            ("R", "R"),
        ),
    ],
)
def test_the_class_that_names_a_java_file_is_found(source, names):
    assert class_names(source) == names


def test_paths_of_a_box_never_lie_in_one_another(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "ab").mkdir()
    paths = [tmp_path / "a", tmp_path / "a" / "b", tmp_path / "ab", tmp_path / "none"]
    assert base.bind_paths(map(str, paths)) == (str(tmp_path / "a"), str(tmp_path / "ab"))


pytest_sandbox = pytest.mark.sandbox


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(1, limits=Limits(cpu_seconds=3, wall_seconds=20, memory_mb=256)) as made:
        yield made


@pytest_sandbox
@pytest.mark.parametrize("name", ["python", "cpp", "c", "javascript", "java"])
def test_every_language_here_proves_itself_by_its_examples(sandbox, name):
    if any(mark.name == "skip" for mark in cases.needs(name)):
        pytest.skip(f"no toolchain for {name}")
    (row,) = (row for row in languages.report(sandbox) if row.name == name)
    assert row.works and row.version and not row.remedy, row


@pytest_sandbox
def test_a_language_from_outside_works_once_it_is_registered(sandbox, monkeypatch):
    """A shell, which may make processes."""
    monkeypatch.setattr(languages, "_REGISTRY", dict(languages._REGISTRY))

    @languages.register
    class Shell(base.Language):
        name, commands, remedy = "shell", ("bash",), "apt install bash"

        def file_name(self, source):
            return "main.sh"

        def run_step(self, tools, source, limits):
            argv = (tools.programs["bash"], "main.sh")
            return base.Step(argv, base.Box(tools.paths), (("address space", limits.memory_mb),), forks=True)

    source = 'read n; echo $((2 * n)) $(echo a | while read x; do echo "<$x>"; done)'
    (result,) = sandbox.run([Program(source, "", (IOTest("21\n", "42 <a>"),), language="shell")])
    assert result.verdict is Verdict.passed, result


@pytest_sandbox
def test_a_toolchain_that_is_missing_aborts_and_scores_nothing(sandbox, monkeypatch):
    monkeypatch.setattr(languages, "_REGISTRY", dict(languages._REGISTRY))

    @languages.register
    class Lacking(base.Language):
        name, commands, remedy = "lacking", ("no-such-compiler",), "apt install no-such"

    with pytest.raises(languages.LanguageUnavailable):
        list(sandbox.run([Program("", "", (IOTest("", ""),), language="lacking")]))
    (row,) = (row for row in languages.report(sandbox) if row.name == "lacking")
    assert not row.works and "not on the PATH" in row.detail and row.remedy == "apt install no-such"


JAVASCRIPT = pytest.mark.skipif(any(m.name == "skip" for m in cases.needs("javascript")), reason="no node")


@pytest_sandbox
@JAVASCRIPT
@pytest.mark.parametrize(
    ("source", "args", "expected", "verdict"),
    [
        (
            "function f(a, b) { console.log('noise'); return a.map(x => x * b) }",
            ([1, 2], 3),
            (3, 6),
            "passed",
        ),
        ("function f(a, b) { return a.map(x => x * b) }", ([1, 2], 3), [3, 7], "wrong_answer"),
        ("const f = async x => x * 2", (4,), 8, "passed"),
        ("module.exports = x => x * 2", (4,), 8, "passed"),
        ("module.exports.f = x => ({a: [x, null, undefined]})", (4,), {"a": [4, None, None]}, "passed"),
        ("const f = x => x", ("😀 é \0",), "😀 é \0", "passed"),
        ("const f = x => 2n ** 100n", (1,), 2**100, "passed"),
        ("const f = x => 1 / 0", (1,), float("inf"), "passed"),
        ("const f = x => NaN", (1,), None, "wrong_answer"),
        ("const f = x => NaN", (1,), float("nan"), "wrong_answer"),
        ("const f = x => new Map()", (1,), {}, "wrong_answer"),
        ("const f = x => { process.exit(0) }", (1,), None, "wrong_answer"),
        ("const f = x => { process.stdout.write('null'); process.exit(0) }", (1,), 5, "wrong_answer"),
        ("const f = x => ({toJSON() { return 5 }})", (1,), 5, "wrong_answer"),
        ("JSON.stringify = () => '{'; const f = x => 5", (1,), 5, "wrong_answer"),
        (
            "const f = x => { let a = 1; for (let i = 0; i < 5000; i++) a = [a]; return a }",
            (1,),
            5,
            "wrong_answer",
        ),
        ("const f = x => { throw new TypeError('boo') }", (1,), 5, "runtime_error"),
        ("const g = 1", (1,), 5, "runtime_error"),
        ("const f = (", (1,), 5, "syntax_error"),
        ("const f = x => { for (;;); }", (1,), 5, "timeout"),
        ("const f = x => x * 1.0000001", (3,), 3, "wrong_answer"),
    ],
)
def test_calls_of_javascript_are_compared_outside(sandbox, source, args, expected, verdict):
    limits = Limits(cpu_seconds=1, wall_seconds=10, memory_mb=256)
    program = Program(source, "f", (CallTest(args, expected),), language="javascript", limits=limits)
    (result,) = sandbox.run([program])
    assert result.verdict == verdict and result.verdict_trust == "isolated", result


@pytest_sandbox
@JAVASCRIPT
def test_a_tolerance_holds_for_calls_of_javascript(sandbox):
    program = Program(
        "const f = x => [x / 3]", "f", (CallTest((1,), (0.3333,), 1e-3),), language="javascript"
    )
    (result,) = sandbox.run([program])
    assert result.verdict is Verdict.passed, result


@pytest_sandbox
@JAVASCRIPT
def test_appended_tests_share_the_process_and_the_result_says_so(sandbox):
    tests = [f"require('assert').equal(add(1, 2), {n})" for n in (3, 4)]
    program = Program(
        "function add(a, b) { return a + b }",
        "add",
        tuple(CodeTest(t, in_process=True) for t in tests),
        language="js",
    )
    (result,) = sandbox.run([program], all_tests=True)
    assert [str(c.verdict) for c in result.cells] == ["passed", "wrong_answer"]
    assert result.verdict_trust == "forgeable" and "3 == 4" in result.message
