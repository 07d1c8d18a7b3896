"""The console script `codealign`: a static table of subcommands, each imported only when it is called.

`codealign --help` must stay cheap, so nothing but the standard library is imported up here.
"""

from __future__ import annotations

import difflib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType

COMMANDS: dict[str, tuple[str, str]] = {
    "sample": ("codegen_eval.commands.sample", "draw programs and tests from a causal language model"),
    "execute": ("codegen_eval.commands.execute", "run programs x tests in the sandbox, into pass matrices"),
    "rank": ("codegen_eval.commands.rank", "rank the programs of each problem by their pass matrix"),
    "pairs": ("codegen_eval.commands.pairs", "turn rankings into preference pairs in TRL's format"),
    "generate-data": ("codegen_eval.commands.generate_data", "prompts to a datasets folder, in one job"),
    "score": ("alignment.offpolicy.score_command", "score drawn answers by any reward, to train on them"),
    "train": ("alignment.train_command", "train on them: accelerate launch with a recipe"),
    "status": ("alignment.status_command", "what the processes of a training run do, and what happened"),
    "mcts-dpo": ("alignment.mcts_dpo", "rounds of tree search and DPO on step pairs"),
    "inspect-data": (
        "alignment.inspect_command",
        "rows of training data as tokens, with their masks in colour",
    ),
    "eval": ("codegen_eval.commands.eval", "score samples of a benchmark on its hidden tests"),
    "audit": ("codegen_eval.commands.audit", "what a benchmark's own tests are worth"),
    "compare": ("codegen_eval.commands.compare", "two evaluations of the same problems: is one better?"),
    "explain": ("codegen_eval.commands.explain", "why two evaluations of one model differ"),
    "report": ("codegen_eval.commands.report", "one self-contained HTML page: evaluations, pairs, matrices"),
    "bon": ("alignment.bon_command", "what the best of n samples by a reward is worth, for any n"),
    "quickstart": ("alignment.quickstart", "the whole chain on the embedded model and benchmark"),
    "card": ("alignment.card_command", "a trained model's card, with evaluations; push it to the hub"),
    "refine-schedule": (
        "alignment.refine_command",
        "a learning-rate schedule from the gradient norms of a run",
    ),
    "reproduce": ("alignment.studies.reproduce", "repeat a paper's experiment"),
    "serve-sandbox": ("codegen_eval.commands.serve_sandbox", "serve the sandbox over HTTP"),
    "doctor": ("codegen_eval.commands.doctor", "show what this machine allows the sandbox"),
}

FAILED = 2
INTERRUPTED = 130
TERMINATED = 143


class _Terminated(KeyboardInterrupt):
    """SIGTERM, raised like Ctrl-C so that the same clean-up runs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand.

    Args:
        argv: The arguments after `codealign`; None takes the process's own.

    Returns:
        The exit status: 0, 2 for what the user can mend, 130 or 143 when stopped by Ctrl-C or SIGTERM.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] in ("-V", "--version"):
        from alignment import __version__

        print(f"codealign {__version__}")
        return 0
    if arguments[0] not in COMMANDS:
        close = difflib.get_close_matches(arguments[0], COMMANDS, n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return _fail(f"unknown command {arguments[0]!r}{hint}\nThere are: {', '.join(COMMANDS)}")
    module = COMMANDS[arguments[0]][0]
    return guarded(lambda rest: int(importlib.import_module(module).main(rest)), arguments[1:])


def usage() -> str:
    """The text of `codealign --help`."""
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: codealign COMMAND [options]",
            "",
            "Trains language models to write code that is right and fast.",
            "",
            *rows,
            "",
            "codealign COMMAND --help lists a command's options; codealign --version the version.",
            "Every command writes a run directory: stop it, give the same command again, and it goes on.",
        ]
    )


def guarded(entry: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Runs an entry point so that what a user can mend ends in one message, not a traceback.

    Args:
        entry: Takes the arguments, returns an exit status.
        arguments: The command line without the program's name.

    Returns:
        The exit status, as for `main`; CODEALIGN_DEBUG=1 shows the traceback as well.
    """
    previous = signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        status = entry(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as stop:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return TERMINATED if isinstance(stop, _Terminated) else INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            return 1
        if not _mendable(error):
            raise
        if os.environ.get("CODEALIGN_DEBUG") == "1":
            traceback.print_exc()
        # A run that wants to be started again says so by a status of its own.
        return _fail(_describe(error), getattr(error, "status", FAILED))
    finally:
        signal.signal(signal.SIGTERM, previous)


def _reader_is_gone() -> bool:
    """Whether it is our own output that nobody reads any more (`| head`), not some other pipe that broke."""
    import select

    try:
        handle = sys.stdout.fileno()
    except (OSError, ValueError):
        return False
    poll = select.poll()
    poll.register(handle, select.POLLOUT)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        return False
    # Python must not fail once more when it flushes at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), handle)
    return True


def _mendable(error: Exception) -> bool:
    """Whether the user, not a programmer, has to act; anything else keeps its traceback."""
    from codegen_eval.errors import CodealignError
    from sandbox import SandboxError

    if isinstance(error, ModuleNotFoundError):
        return error.name is not None and error.name.split(".")[0] in _EXTRA_OF
    return isinstance(error, CodealignError | SandboxError | OSError)


_EXTRA_OF = {
    **dict.fromkeys(("torch", "transformers", "trl", "peft", "datasets", "accelerate"), "train"),
    **dict.fromkeys(("matplotlib", "pygments"), "report"),
    **{name: name for name in ("vllm", "deepspeed", "ray")},
    "uvicorn": "serve",
}


def _describe(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        name = (error.name or "").split(".")[0]
        return f"this needs {name}, which is not installed: pip install 'codealign[{_EXTRA_OF[name]}]'"
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"{where}{error.strerror}; mend that and run the same command again (what was finished is kept)"
        )
    return str(error) or type(error).__name__


def _fail(message: str, status: int = FAILED) -> int:
    print(f"codealign: {message}", file=sys.stderr)
    return status


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    raise _Terminated


if __name__ == "__main__":
    sys.exit(main())
