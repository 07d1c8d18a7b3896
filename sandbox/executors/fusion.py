"""The shapes of SandboxFusion's `/run_code`, for its clients and its servers.

Field names and their meaning from bytedance/SandboxFusion, `sandbox/server/sandbox_api.py` (RunCodeRequest,
RunCodeResponse, parse_run_status) and `sandbox/runners/types.py` (CommandRunResult), commit 53a6341; how verl
reads them: verl-project/verl, `verl/utils/reward_score/sandbox_fusion/utils.py`, commit b017a83.

Departs in three points: `run_timeout` is CPU time here (wall time ends a sleeper at twice as much); of output
that is no UTF-8 the bytes are replaced; `args` (for pytest only) and paths outside the working directory are
refused.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any

from .. import languages
from ..limits import Limits
from ..verdict import SandboxError, Verdict
from . import wire
from .orders import Answer, Execution, Script
from .scripts import check_path

DEFAULT_TIMEOUT = 10.0


def language_names() -> tuple[str, ...]:
    """Languages that scripts are run in."""
    return languages.names()


def script_of_request(data: Any) -> Script:
    """What a `/run_code` request asks for; keys that SandboxFusion does not know are ignored, as there.

    Raises:
        WireError: Not such a request.
    """
    if not isinstance(data, dict):
        raise wire.WireError("expected an object with 'code' and 'language'")
    for name in ("code", "language"):
        if not isinstance(data.get(name), str):
            raise wire.WireError(f"{name}: expected text")
    if data.get("args"):
        raise wire.WireError("args: arguments of pytest are not supported")
    try:
        language = languages.get(data["language"]).name
    except ValueError as error:
        raise wire.WireError(str(error)) from None
    stdin = data.get("stdin")
    if not isinstance(stdin, str | None):
        raise wire.WireError("stdin: expected text or null")
    return Script(
        data["code"],
        (stdin or "").encode("utf-8", "surrogateescape"),
        language,
        _files(data.get("files") or {}),
        _names(data.get("fetch_files") or []),
        _limits(data),
    )


def _limits(data: Mapping[str, Any]) -> Limits:
    timeout, memory = data.get("run_timeout", DEFAULT_TIMEOUT), data.get("memory_limit_MB", -1)
    for name, value in (("run_timeout", timeout), ("memory_limit_MB", memory)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wire.WireError(f"{name}: expected a number")
    try:
        limits = Limits(cpu_seconds=timeout, wall_seconds=2 * timeout)
        return limits if memory <= 0 else Limits(timeout, 2 * timeout, math.ceil(memory))
    except ValueError as error:
        raise wire.WireError(str(error)) from None


def _files(files: Any) -> tuple[tuple[str, bytes], ...]:
    if not isinstance(files, dict):
        raise wire.WireError("files: expected an object of path to base64 text")
    found = []
    for path, content in files.items():
        _names([path])
        try:
            found.append((path, base64.b64decode(content or "", validate=True)))
        except (binascii.Error, ValueError, TypeError):
            raise wire.WireError(f"files[{path!r}]: not base64") from None
    return tuple(found)


def _names(paths: Any) -> tuple[str, ...]:
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise wire.WireError("fetch_files: expected a list of paths")
    for path in paths:
        try:
            check_path(path)
        except ValueError as error:
            raise wire.WireError(str(error)) from None
    return tuple(paths)


def response(answer: Answer) -> dict[str, Any]:
    """The response to a `/run_code` request."""
    if not isinstance(answer, Execution):
        raise SandboxError(f"a script was answered by a {type(answer).__name__}")
    text = answer.stderr.decode("utf-8", "replace")
    if answer.verdict is Verdict.syntax_error:
        compiled = _command("Finished", 0.0, 1, "", text)
        return {**_shape("Failed", "; ".join(answer.notes)), "compile_result": compiled}
    timed_out = answer.verdict is Verdict.timeout
    code = answer.return_code
    if code is None and not timed_out:
        code = -9  # ended from outside
    if answer.verdict is not Verdict.passed and not text:
        text = f"{answer.verdict}: {answer.cause}"
    state = "TimeLimitExceeded" if timed_out else "Finished"
    out = answer.stdout.decode("utf-8", "replace")
    run = _command(state, answer.seconds, None if timed_out else code, out, text)
    found = _shape("Success" if code == 0 and not timed_out else "Failed", "; ".join(answer.notes))
    files = {path: base64.b64encode(content).decode("ascii") for path, content in answer.files}
    return {**found, "run_result": run, "files": files}


def _shape(status: str, message: str) -> dict[str, Any]:
    return {
        "status": status,
        "message": message,
        "compile_result": None,
        "run_result": None,
        "executor_pod_name": None,
        "files": {},
    }


def _command(status: str, seconds: float, code: int | None, out: str, err: str) -> dict[str, Any]:
    return {"status": status, "execution_time": seconds, "return_code": code, "stdout": out, "stderr": err}


def failure(error: SandboxError) -> dict[str, Any]:
    """The response when the sandbox itself failed."""
    return _shape("SandboxError", str(error))


def request(script: Script) -> dict[str, Any]:
    """A `/run_code` request."""
    limits = script.limits or Limits()
    return {
        "code": script.source,
        "stdin": script.stdin.decode("utf-8", "surrogateescape"),
        "language": script.language,
        "run_timeout": limits.cpu_seconds,
        "compile_timeout": DEFAULT_TIMEOUT,
        "memory_limit_MB": int(limits.memory_mb),
        "files": {path: base64.b64encode(content).decode("ascii") for path, content in script.files},
        "fetch_files": list(script.fetch),
    }


def execution(data: Any) -> Execution:
    """What a `/run_code` response says.

    Raises:
        SandboxError: The server could not run it (`SandboxError` there), or says something else.
    """
    if not isinstance(data, dict) or data.get("status") not in ("Success", "Failed", "SandboxError"):
        raise SandboxError(f"not a response of /run_code: {str(data)[:200]}")
    if data["status"] == "SandboxError":
        raise SandboxError(f"the server could not run it: {str(data.get('message'))[:500]}")
    compiled, run = data.get("compile_result"), data.get("run_result")
    if isinstance(compiled, dict) and (compiled.get("status") != "Finished" or compiled.get("return_code")):
        text = str(compiled.get("stderr") or "")
        return Execution(Verdict.syntax_error, "compile", b"", text.encode("utf-8", "replace"), None, 0.0)
    if not isinstance(run, dict):
        raise SandboxError("the response of /run_code has no run_result")
    out, err = (str(run.get(name) or "").encode("utf-8", "surrogatepass") for name in ("stdout", "stderr"))
    seconds = run.get("execution_time")
    spent = float(seconds) if isinstance(seconds, int | float) else 0.0
    if run.get("status") == "TimeLimitExceeded":
        return Execution(Verdict.timeout, "wall", out, err, None, spent)
    code = run.get("return_code")
    if not isinstance(code, int):
        raise SandboxError("the response of /run_code has no return code")
    files = data.get("files") if isinstance(data.get("files"), dict) else {}
    return Execution(Verdict.passed, "", out, err, code, spent, _files(files))
