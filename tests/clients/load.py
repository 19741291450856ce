"""Many clients at once against a running daemon: idle connections, event streams, slow ones that
hold their request back, and a probe that measures how long /health takes meanwhile.

load.py SOCKET [--connections 1000] [--streams 200] [--seconds 60] [--drops 2000]

Prints what was seen as JSON: the probe's times, the daemon's memory and descriptors before, during
and after, and how clients ended. With --drops it first starts that many large chat requests and
leaves each at once: nothing of them may stay.
"""
import argparse
import asyncio
import json
import random
import time

SAMPLE_S = 10
QUESTION = "Mia has 18 beads. She finds 4 more. How many beads does Mia have?"


async def connect(path):
    return await asyncio.open_unix_connection(path, limit=1 << 20)


def request(method, path, body=None):
    data = json.dumps(body).encode() if body is not None else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    return (head + "\r\n").encode() + data


async def answer(reader):
    """Status and body of one answer with a length."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return status, await reader.readexactly(length)


async def once(path, *what):
    reader, writer = await connect(path)
    writer.write(request(*what))
    try:
        return await answer(reader)
    finally:
        writer.close()


async def gauges(path):
    _, text = await once(path, "GET", "/metrics")
    wanted = ("ponder_resident_bytes", "ponder_open_fds", "ponder_http_connections",
              "ponder_http_streams", "ponder_queue_depth", 'ponder_jobs{state="running"}')
    out = {}
    for line in text.decode().splitlines():
        name, _, value = line.rpartition(" ")
        if name in wanted:
            out[name.removeprefix("ponder_")] = float(value)
    return out


async def drop(path, n):
    """Begins a job of 64 lanes and leaves."""
    body = {"model": "tiny-base@self_consistency", "stream": True,
            "messages": [{"role": "user", "content": QUESTION}],
            "ponder": {"options": {"samples": 64}}}
    told = {}
    for _ in range(n):
        reader, writer = await connect(path)
        writer.write(request("POST", "/v1/chat/completions", body))
        await writer.drain()
        if random.random() < 0.5:  # sometimes it had begun to answer
            try:
                line = await asyncio.wait_for(reader.readline(), 0.02)
                status = line.split(b" ")[1].decode() if b" " in line else "none"
                told[status] = told.get(status, 0) + 1
            except asyncio.TimeoutError:
                pass
        writer.close()
    return told


async def idle(path, until, seen):
    try:
        reader, writer = await connect(path)
        while time.time() < until:
            writer.write(request("GET", "/ready"))
            status, _ = await answer(reader)
            seen[status] = seen.get(status, 0) + 1
            await asyncio.sleep(random.uniform(1, 8))
        writer.close()
    except (OSError, asyncio.IncompleteReadError) as e:
        seen[type(e).__name__] = seen.get(type(e).__name__, 0) + 1


async def stream(path, until, seen):
    """Follows one job after the other."""
    while time.time() < until:
        try:
            status, body = await once(path, "POST", "/v1/jobs", {
                "messages": [{"role": "user", "content": QUESTION}],
                "ponder": {"strategy": "best_of_n", "options": {"samples": 4},
                           "seed": random.randrange(1 << 30)}})
            seen[status] = seen.get(status, 0) + 1
            if status != 202:
                await asyncio.sleep(2)
                continue
            job = json.loads(body)["id"]
            reader, writer = await connect(path)
            writer.write(request("GET", f"/v1/jobs/{job}/events"))
            text = b""
            while b"event: job.done" not in text and time.time() < until:
                piece = await asyncio.wait_for(reader.read(65536), 60)
                if not piece:
                    break
                text = text[-64:] + piece
            seen["ended"] = seen.get("ended", 0) + (b"event: job.done" in text)
            writer.close()
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as e:
            seen[type(e).__name__] = seen.get(type(e).__name__, 0) + 1


async def slow(path, until, seen):
    """A byte a second, for ever: the daemon must hang up."""
    while time.time() < until:
        try:
            reader, writer = await connect(path)
            for byte in request("GET", "/health")[:-2] + b"X-Slow: " + b"x" * 1000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(1)
                if reader.at_eof() or time.time() > until:
                    break
            seen["hung up" if reader.at_eof() else "still there"] = seen.get(
                "hung up" if reader.at_eof() else "still there", 0) + 1
            writer.close()
        except OSError:
            seen["hung up"] = seen.get("hung up", 0) + 1


async def probe(path, until, times):
    reader, writer = await connect(path)
    while time.time() < until:
        begin = time.perf_counter()
        writer.write(request("GET", "/health"))
        status, _ = await answer(reader)
        assert status == 200
        times.append(time.perf_counter() - begin)
        await asyncio.sleep(0.01)
    writer.close()


async def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("socket")
    ap.add_argument("--connections", type=int, default=1000)
    ap.add_argument("--streams", type=int, default=200)
    ap.add_argument("--slow", type=int, default=50)
    ap.add_argument("--seconds", type=float, default=60)
    ap.add_argument("--drops", type=int, default=0)
    a = ap.parse_args()
    out = {"before": await gauges(a.socket)}
    if a.drops:
        out["drops"] = await drop(a.socket, a.drops)
        for _ in range(300):
            out["after drops"] = await gauges(a.socket)
            if not out["after drops"]['jobs{state="running"}'] and not out["after drops"]["queue_depth"]:
                break
            await asyncio.sleep(0.2)
    until = time.time() + a.seconds
    times, seen = [], {"idle": {}, "stream": {}, "slow": {}}
    work = [asyncio.create_task(probe(a.socket, until, times))]
    for i in range(a.connections):
        work.append(asyncio.create_task(idle(a.socket, until, seen["idle"])))
        if i % 100 == 99:
            await asyncio.sleep(0.1)
    work += [asyncio.create_task(stream(a.socket, until, seen["stream"])) for _ in range(a.streams)]
    work += [asyncio.create_task(slow(a.socket, until, seen["slow"])) for _ in range(a.slow)]
    memory = []
    while time.time() < until - SAMPLE_S:
        await asyncio.sleep(SAMPLE_S)
        memory.append(round((await gauges(a.socket))["resident_bytes"] / 1e6, 1))
    await asyncio.gather(*work)
    await asyncio.sleep(2)
    times.sort()
    out.update(seen)
    out["resident MB"] = {"min": min(memory), "median": sorted(memory)[len(memory) // 2], "max": max(memory),
                          "every 10 s": memory}
    out["health ms"] = {p: round(1e3 * times[int(len(times) * p / 100)], 2) for p in (50, 90, 99)}
    out["probes"] = len(times)
    out["after"] = await gauges(a.socket)
    print(json.dumps(out, indent=1))


asyncio.run(main())
