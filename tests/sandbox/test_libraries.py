"""Installed packages are hidden but for those that the user names."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from sandbox import CallTest, CodeTest, Program, Sandbox, SandboxError, Verdict

pytestmark = pytest.mark.sandbox
NUMPY = "import numpy as np\ndef f(n): return int(np.arange(n).sum())"


def test_a_named_library_is_there_and_others_are_not():
    if "/tmp" in np.__file__[:4]:
        pytest.skip("numpy lies below /tmp, where no box can see it: run the interpreter of another place")
    with Sandbox(1, libraries=("numpy",)) as box:
        test = CodeTest("import numpy\nassert f(4) == numpy.arange(4).sum()")
        lazy = "import numpy.polynomial.hermite_e as h\ndef f(n): return int(h.hermeval(1, [n]))"
        other = "def f(n):\n    try: import scipy\n    except ImportError: return 6\n    return 0"
        tests = (CallTest((4,), 6), test)
        results = list(box.run([Program(NUMPY, "f", tests), Program(lazy, "f", (CallTest((4,), 4),))]))
        results += box.run([Program(other, "f", (CallTest((4,), 6),))])
        assert [r.verdict for r in results] == [Verdict.passed] * 3, results
    with Sandbox(1) as box:
        (result,) = box.run([Program(NUMPY, "f", tests)])
        assert (result.verdict, result.cause) == (Verdict.runtime_error, "ModuleNotFoundError")


@pytest.fixture
def elsewhere():
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize("name", ["no_such_library", "a.b", "", 3])
def test_a_library_that_is_not_there_is_named(name):
    with pytest.raises(ValueError, match="library"):
        Sandbox(1, libraries=(name,))


def test_a_library_that_does_not_load_says_so(elsewhere, monkeypatch):
    (elsewhere / "broken_library.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(elsewhere))
    with pytest.raises(SandboxError, match=r"library.*ZeroDivisionError"):
        Sandbox(1, libraries=("broken_library",))


def test_a_library_below_tmp_is_refused(monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        (Path(folder) / "below_tmp.py").write_text("")
        monkeypatch.syspath_prepend(folder)
        with pytest.raises(ValueError, match="below /tmp"):
            Sandbox(1, libraries=("below_tmp",))


def test_a_library_of_one_file_is_seen(elsewhere, monkeypatch):
    (elsewhere / "one_file.py").write_text("def double(n): return 2 * n")
    monkeypatch.syspath_prepend(str(elsewhere))
    with Sandbox(1, libraries=("one_file",)) as box:
        (result,) = box.run([Program("from one_file import double as f", "f", (CallTest((4,), 8),))])
        assert result.verdict is Verdict.passed, result
