"""How much of a judge server's capacity curation uses, and how its memory grows with the number of records.

    python benchmarks/curation.py                                   # both; about ten minutes
    python benchmarks/curation.py --contexts 64 --concurrency 8 --memory 0

The server is a stub in a process of its own: every answer takes the same time, however many are under way, as those of
a large model with room to spare. At `concurrency` requests at a time, a stage of n calls cannot take less than
n * latency / concurrency; what a stage took is set against that. Pictures and editors are the embedded domain's, all
judges are the stub. Memory is the peak of a whole run with simulated judges, in a process of its own, for two sizes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from parts.common import describe_processor, make_parser, write_json

ROOT = Path(__file__).parents[1]
STICKERS = ROOT / "recipes/sticker/curate.toml"
JUDGED = ("decompose", "trace", "verify")
CATEGORIES = ("Instruction Following", "Feature Preservation", "Image Quality")


def reply_to(system: str) -> str:
    """A whole answer for the stage whose rubric this is; there are always three principles."""
    if "Split the instruction" in system:
        return json.dumps([{"question": f"Is part {n} right?", "category": c} for n, c in enumerate(CATEGORIES)])
    if "final authority" in system:
        return json.dumps([{"id": n, "reason": "it can be seen", "gold": 1} for n in (1, 2, 3)])
    rows = json.dumps([{"id": n, "reason": "it can be seen", "score": 1} for n in (1, 2, 3)])
    return f'I look at both pictures.\n{rows}\n{{"average_score": 1.00}}\n<score>9.0</score>'


def serve(port: int, latency: float) -> None:
    """The stub; it never returns."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def chat(request: Request) -> JSONResponse:
        began = time.monotonic()
        system = re.search(rb'"role": ?"system", ?"content": ?"(.{0,4000})', await request.body(), re.DOTALL)
        text = reply_to(system[1].decode(errors="replace") if system else "")
        await asyncio.sleep(max(latency - (time.monotonic() - began), 0))
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1500, "completion_tokens": 200, "total_tokens": 1700}
        head = {"id": "stub", "object": "chat.completion", "created": 0, "model": "stub"}
        return JSONResponse({**head, "choices": [choice], "usage": usage})

    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


def wait_for(port: int) -> None:
    """Until the stub listens."""
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the stub server did not start")


def curate(out: Path, *settings: str) -> dict[str, Any]:
    """A run of the command in a process of its own; its manifest."""
    overrides = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "editr1", "curate", str(STICKERS), "--out", str(out), *overrides]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT)
    manifest: dict[str, Any] = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    return manifest


def throughput(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds of each judged stage against what the server's latency and the concurrency allow."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stub = subprocess.Popen([sys.executable, __file__, "--serve", str(port), "--latency", str(args.latency)])
    judge = (
        f'{{kind="openai", model="stub", base_url="http://127.0.0.1:{port}/v1", concurrency={args.concurrency}, '
        f'api_key_env="STUB_KEY"}}'
    )
    os.environ["STUB_KEY"] = "none"
    try:
        wait_for(port)
        manifest = curate(
            folder / "stub",
            f"select.random={args.contexts}",
            "select.hard=0",
            f"source.count={args.contexts}",
            f"shard_size={args.shard}",
            f"decompose.judge={judge}",
            f"trace.judges=[{judge}]",
            "trace.samples=4",
            f"verify.judge={judge}",
        )
    finally:
        stub.terminate()
    rows = {}
    for stage in JUDGED:
        calls = sum(judge["calls"] for judge in manifest[stage]["judges"].values())
        took = manifest[stage]["wall_seconds_of_this_run"]
        ideal = calls * args.latency / args.concurrency
        rows[stage] = {"calls": calls, "seconds": took, "ideal": round(ideal, 2), "share": round(ideal / took, 4)}
    ideal, took = (sum(row[name] for row in rows.values()) for name in ("ideal", "seconds"))
    rows["all"] = {"calls": sum(r["calls"] for r in rows.values()), "seconds": took, "ideal": ideal}
    rows["all"]["share"] = round(ideal / took, 4)
    return rows


def peak_memory(args: argparse.Namespace, folder: Path, quadruples: int) -> dict[str, Any]:
    """Peak resident memory of a run with about so many quadruples, in MiB."""
    contexts = max(quadruples // 8, 8)
    out = folder / f"memory-{quadruples}"
    code = (
        "import json, resource, sys\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from curation import curate\n"
        "found = curate(Path(sys.argv[2]), *sys.argv[3:])\n"
        "print(json.dumps([found['choose']['out'], resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024]))\n"
    )
    settings = (f"select.random={contexts}", "select.hard=0", f"source.count={contexts}", f"shard_size={args.shard}")
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(out), *settings]
    made, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {"quadruples": made, "peak_mib": round(peak, 1)}


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    parser = make_parser(__doc__)
    parser.add_argument("--contexts", type=int, default=256, help="contexts for the throughput")
    parser.add_argument("--shard", type=int, default=128, help="contexts in a shard")
    parser.add_argument("--concurrency", type=int, default=16, help="requests at a time")
    parser.add_argument("--latency", type=float, default=1.0, help="seconds that every answer takes")
    parser.add_argument("--memory", type=int, default=10_000, help="quadruples of the larger run; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=1, help="repetitions of the throughput; 0 leaves it out")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(args.serve, args.latency)
    found: dict[str, Any] = {"machine": describe_processor()}
    found["concurrency"], found["latency"], found["shard"] = args.concurrency, args.latency, args.shard
    with tempfile.TemporaryDirectory() as name:
        found["throughput"] = [throughput(args, Path(name) / str(n)) for n in range(args.rounds)]
        for number, rows in enumerate(found["throughput"], start=1):
            print(f"round {number}: {args.concurrency} requests at a time, {args.latency} s each")
            for stage, row in rows.items():
                print(f"  {stage:10} {row['calls']:6} calls  {row['seconds']:7.1f} s  {100 * row['share']:5.1f} %")
        if args.memory:
            found["memory"] = [peak_memory(args, Path(name), size) for size in (args.memory // 10, args.memory)]
            for row in found["memory"]:
                print(f"{row['quadruples']:6} quadruples: peak {row['peak_mib']:.0f} MiB")
            less, more = (row["peak_mib"] for row in found["memory"])
            print(f"ten times the records take {more / less:.2f} times the memory")
    if args.out:
        write_json(args.out, found)
    return None


if __name__ == "__main__":
    main()
