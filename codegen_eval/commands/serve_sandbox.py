"""`codealign serve-sandbox`: the sandbox as an HTTP service, one a node.

Start it before anything on the node initialises CUDA, and let the programs of many trainers come in over the
network. docs/executors.md has requests to try and how to run it in Docker, Kubernetes and Slurm.
"""

from __future__ import annotations

import argparse
import logging
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from codegen_eval.errors import CodealignError


def main(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or Ctrl-C; what was accepted is finished first.

    Returns:
        0 after an orderly end.
    """
    options = _parser().parse_args(list(argv))

    from sandbox import Limits
    from sandbox.executors import Policy
    from sandbox.executors.http_serve import Address, check_token, serve
    from sandbox.executors.http_server import Bounds
    from sandbox.executors.local import LocalExecutor

    try:
        token = _token(options.token_file)
        check_token(options.host, token)
        address = Address(
            options.host,
            options.port,
            options.header_seconds,
            options.connections,
            options.drain_seconds,
            options.tls_cert,
            options.tls_key,
        )
        bounds = Bounds(options.queue, options.max_body, options.body_seconds)
        hard = Limits(
            options.max_cpu_seconds, options.max_wall_seconds, options.max_memory_mb, options.max_output_kb
        )
        policy = Policy(max_infra_rate=1.0)
        executor = LocalExecutor(
            options.workers,
            policy=policy,
            require=options.require,
            hard_limits=hard,
            libraries=tuple(options.library),
        )
    except ValueError as error:
        raise CodealignError(str(error)) from None
    logging.basicConfig(level=logging.INFO, format="[serve-sandbox] %(message)s", stream=sys.stderr)
    with executor:
        log = logging.getLogger("codealign.serve")
        log.info(
            "%d workers, isolation %s, queue %d", executor.workers, executor.isolation.level, bounds.queue
        )
        try:
            serve(executor, address, bounds, token)
        except KeyboardInterrupt:  # raised again by uvicorn when all is finished
            log.info("all that was accepted is answered; stopped")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="codealign serve-sandbox",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on; one that is no loopback needs a token")
    add("--port", type=int, default=8091, help="0 takes a free port")
    add("--workers", type=int, default=None, help="programs that run at a time; one a processor if not given")
    add("--token-file", default=None, help="file whose first line clients send as Bearer token")
    add("--queue", type=int, default=256, help="programs accepted and unfinished at a time; beyond: 429")
    add("--max-body", type=int, default=32 * 2**20, help="bytes of a request's body")
    add("--require", default="full", help="least level of isolation")
    add("--library", action="append", default=[], help="installed package that programs may import")
    add("--max-cpu-seconds", type=float, default=30.0, help="no test gets more, whatever it asks for")
    add("--max-wall-seconds", type=float, default=120.0, help="likewise")
    add("--max-memory-mb", type=int, default=4096, help="likewise")
    add("--max-output-kb", type=int, default=4096, help="likewise")
    add("--header-seconds", type=float, default=15.0, help="time for a request's head")
    add("--body-seconds", type=float, default=60.0, help="time for its body")
    add("--connections", type=int, default=1000, help="open connections; beyond: 503")
    add("--drain-seconds", type=int, default=60, help="time to finish accepted work after SIGTERM")
    add("--tls-cert", default="", help="certificate chain (PEM); without it the service speaks plain HTTP")
    add("--tls-key", default="", help="its key (PEM)")
    return parser


def _token(path: str | None) -> str | None:
    if path is None:
        return None
    file = Path(path)
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    if file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        print(f"codealign serve-sandbox: others can read {path}: chmod 600 {path}", file=sys.stderr)
    return lines[0].strip() if lines else ""
