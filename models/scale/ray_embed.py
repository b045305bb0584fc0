"""Makes the shards of an embeddings folder as Ray tasks, one task a shard.

    clearfilm-models embed plan --root R --out O ...
    python models/scale/ray_embed.py --binary clearfilm-models --root R --out O
    clearfilm-models embed finish --out O

A task runs `clearfilm-models embed shard`; it is tried again when it fails or its worker or node
dies. A shard counts when its record and its bytes agree, whoever made it, so this may be ended
and started again at any time. Every node must see the root, the folder and the binary.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

# Nobody outside is told of a run, unless the environment says so.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray  # noqa: E402  (it reads the environment when it is imported)

# Bytes that are hashed at once.
PIECE = 1 << 20


def digest(file: Path) -> str:
    """SHA-256 of a file, as the records write it."""
    found = hashlib.sha256()
    with open(file, "rb") as opened:
        while piece := opened.read(PIECE):
            found.update(piece)
    return f"sha256:{found.hexdigest()}"


def valid(out: Path, plan: str, index: int) -> bool:
    """Is the shard there, whole, and of this plan?"""
    stem = out / "shards" / f"{index:06d}"
    try:
        done = json.loads(stem.with_suffix(".done").read_text())
        return done["plan"] == plan and done["sha256"] == digest(stem.with_suffix(".safetensors"))
    except (OSError, ValueError, KeyError):
        return False


def make(command: list[str], out: str, plan: str, index: int) -> int:
    """One task: the process that makes the shard is a child, and tells of its first picture."""
    child = subprocess.Popen([*command, "--worker", "--index", str(index)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    at_work = False
    for line in child.stdout:
        if line.strip() == "picture" and not at_work:
            at_work = True
            print(f"shard {index}: process {child.pid} of worker {os.getpid()} at work", flush=True)
    status = child.wait()
    if status != 0 or not valid(Path(out), plan, index):
        raise RuntimeError(f"shard {index}: expected a valid shard, found status {status}")
    return index


def main() -> int:
    """Makes every shard that is not valid; status 1 where one could not be made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="clearfilm-models", help="the program clearfilm-models")
    parser.add_argument("--root", required=True, help="the collection's folder")
    parser.add_argument("--out", required=True, help="embeddings folder with a plan")
    parser.add_argument("--bundle", help="bundle folder; without it the embedded demo bundle")
    parser.add_argument("--address", help="of a running cluster; without it one is started here")
    parser.add_argument("--cpus", type=int, help="of a cluster that is started here")
    parser.add_argument("--attempts", type=int, default=3, help="times that a shard is tried")
    arguments = parser.parse_args()

    out = Path(arguments.out).resolve()
    plan = digest(out / "plan.json")
    planned = json.loads((out / "plan.json").read_text())
    count = -(-planned["images"] // planned["shard_images"])
    missing = [index for index in range(count) if not valid(out, plan, index)]
    print(f"{count - len(missing)} of {count} shards are valid already", flush=True)

    command = [arguments.binary, "embed", "shard", "--root", str(Path(arguments.root).resolve()), "--out", str(out)]
    if arguments.bundle:
        command += ["--bundle", str(Path(arguments.bundle).resolve())]
    ray.init(address=arguments.address, num_cpus=arguments.cpus, include_dashboard=False, log_to_driver=True)
    retries = arguments.attempts - 1
    task = ray.remote(num_cpus=1, max_retries=retries, retry_exceptions=True)(make)
    tasks = {task.remote(command, str(out), plan, index): index for index in missing}
    failed = []
    while tasks:
        ended, _ = ray.wait(list(tasks))
        for one in ended:
            index = tasks.pop(one)
            try:
                ray.get(one)
                print(f"shard {index}: valid, {len(tasks)} left", flush=True)
            except ray.exceptions.RayError as error:
                failed.append(index)
                print(f"shard {index}: {str(error).splitlines()[-1]}", flush=True)
    ray.shutdown()
    if failed:
        print(f"expected every shard within {arguments.attempts} attempts, found none of {sorted(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
