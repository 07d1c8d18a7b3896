"""The data job on a Ray cluster of two hosts, one of which is cut off; it runs on the first host."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from codegen_eval.benchmarks.base import BENCHMARKS
from tests.alignment.launch.two_hosts import ADDRESSES, destroy, hosts, until
from tests.codegen_eval.datajob.made_up import COUNT, Model, problems
from tests.codegen_eval.datajob.test_ray_cluster import Watched, job

PORT = 6399


def main(folder: Path) -> None:
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_health_check_period_ms": "1000"}
    os.environ |= {"RAY_health_check_timeout_ms": "5000", "RAY_health_check_failure_threshold": "3"}
    import ray

    BENCHMARKS._entries["made-up"] = lambda dataset, split: problems()  # type: ignore[assignment]
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", "2"]
    head = [*start, "--head", "--node-ip-address", ADDRESSES[0], "--port", str(PORT)]
    head += ["--include-dashboard", "false"]
    other = [*start, "--address", f"{ADDRESSES[0]}:{PORT}", "--node-ip-address", ADDRESSES[1]]
    cut = threading.Event()
    with hosts() as two:
        nodes = [two.start(0, head, folder / "head.log")]
        try:
            until(
                lambda: "Ray runtime started" in (folder / "head.log").read_text(errors="replace"), 200, nodes
            )
            nodes.append(two.start(1, other, folder / "other.log"))
            ray.init(address=f"{ADDRESSES[0]}:{PORT}", _node_ip_address=ADDRESSES[0], log_to_driver=False)
            until(lambda: sum(node["Alive"] for node in ray.nodes()) == 2, 200, nodes)
            print("nodes:", sorted(node["NodeManagerAddress"] for node in ray.nodes()))

            def pull() -> None:
                two.cut()
                cut.set()

            model = Watched(pull)
            found = job(folder / "ray", "ray", model)
            assert cut.is_set() and len(model.asked) == 2 * COUNT
            print("equal:", found == job(folder / "local", "local", Model()), len(found))
            until(lambda: sum(node["Alive"] for node in ray.nodes()) == 1, 120)
            print("alive:", [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]])
        finally:
            ray.shutdown()
            for node in nodes:
                destroy(node)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
