"""Clients of the OpenAI-compatible routes that leave while their request is queued, in the middle of its
prompt, of drawing or of scoring: it ends there, and its neighbours do not notice. disconnect.py SOCKET"""
import json
import threading
import time

from client import eventually, run, send

ASK = "Ben has 2 pens. He buys 3 more. How many pens does Ben have?"
CHAT, PROMPT, SCORE = "/v1/chat/completions", "/v1/completions", "/v1/score"


def get(path, body=None):
    c = send(path, body)
    r = c.getresponse()
    text = r.read().decode()
    c.close()
    assert r.status == 200, text
    return text


def metric(name):
    return next(float(line.split()[1]) for line in get("/metrics").splitlines() if line.startswith("ponder_%s " % name))


def jobs():
    return {j["id"]: j for j in json.loads(get("/v1/jobs?limit=100"))["data"]}


def chat(**fields):
    return dict({"model": "tiny-base", "messages": [{"role": "user", "content": ASK}], "seed": 9}, **fields)


def neighbour():
    return json.loads(get(CHAT, chat()))["choices"]


ALONE = neighbour()
LONG = chat(ponder={"strategy": "self_consistency",
                    "options": {"samples": 256, "temperature": 2, "max_tokens": 400}})


def leaves(path, body, phase):
    """Begins a request beside a neighbour's, and leaves when one of its jobs is in that phase: what of them
    had not ended is cancelled, nothing is left of them, and the neighbour's answer is what it is alone. False:
    all of them had ended before it left."""
    before = set(jobs())
    c = send(path, body)

    def mine():
        return {i: j for i, j in jobs().items() if i not in before}

    eventually(lambda: phase(mine()))
    ids = set(mine())
    seen = []
    beside = threading.Thread(target=lambda: seen.append(neighbour()))
    beside.start()
    rows, left = metric("engine_rows_total"), time.monotonic()
    c.close()
    after = eventually(lambda: (lambda all_: all(all_[i]["status"] not in ("queued", "running") for i in ids) and
                                {i: all_[i] for i in ids})(jobs()))
    print("# %s: %.0f ms, %.0f rows of all jobs" % (phase.__name__, 1e3 * (time.monotonic() - left),
                                                    metric("engine_rows_total") - rows))
    beside.join()
    assert seen == [ALONE], seen
    eventually(lambda: metric("kv_pages_used") == 0)
    return any(j["status"] == "cancelled" and j["stopped_by"] == "user" for j in after.values())


def running(js):
    return [j for j in js.values() if j["progress"]]


def queued(js):
    return any(j["status"] == "queued" for j in js.values())


def in_its_prompt(js):
    return any(j["progress"]["tokens"] == 0 for j in running(js))


def drawing(js):
    return any(j["progress"]["tokens"] > 20 for j in running(js))


def scoring(js):
    return any(j["progress"]["scoring"] for j in running(js))


# ---- the points ------------------------------------------------------------------------------

def while_it_is_queued():
    holders = [send(CHAT, dict(LONG, seed=s)) for s in (1, 2)]
    eventually(lambda: len(running(jobs())) == 2)
    for stream in (False, True):
        before = set(jobs())
        c = send(CHAT, chat(stream=stream))
        new = eventually(lambda: set(jobs()) - before).pop()
        assert jobs()[new]["status"] == "queued"
        c.close()
        eventually(lambda: jobs()[new]["status"] == "cancelled")
        assert jobs()[new]["started_ms"] is None and len(running(jobs())) == 2
    for c in holders:
        c.close()
    eventually(lambda: not running(jobs()) and metric("kv_pages_used") == 0)


def while_its_prompt_is_evaluated():
    prompts = ["%d %s" % (i, "A pen and a book. " * 28) for i in range(64)]
    for stream in (False, True):
        body = {"model": "tiny-base", "prompt": prompts, "max_tokens": 1, "stream": stream}
        assert any(leaves(PROMPT, body, in_its_prompt) for _ in range(10))


def while_it_draws():
    for stream in (False, True):
        assert any(leaves(CHAT, dict(LONG, stream=stream), drawing) for _ in range(10))
    body = {"model": "tiny-base", "prompt": "Ben has", "max_tokens": 400, "temperature": 2, "n": 64}
    assert any(leaves(PROMPT, body, drawing) for _ in range(10))


def while_a_search_scores():
    body = chat(model="tiny-base@best_of_n", ponder={"options": {"samples": 256, "temperature": 2, "max_tokens": 400}})
    for stream in (False, True):
        assert any(leaves(CHAT, dict(body, stream=stream), scoring) for _ in range(10))


def while_texts_are_scored():
    """It has no job; what is computed tells."""
    text = "He has 2 + 3 = 5 pens now. " * 8
    body = {"problem": ASK, "solutions": [["%d. %s" % (i, text)] for i in range(256)]}
    rows = metric("engine_rows_total")
    whole = json.loads(get(SCORE, body))
    rows = metric("engine_rows_total") - rows
    body["solutions"].reverse()
    begun = metric("engine_rows_total")
    c = send(SCORE, dict(body, problem=ASK + " Think."))
    eventually(lambda: metric("engine_rows_total") > begun)
    c.close()
    again = eventually(lambda: json.loads(get(SCORE, {"problem": ASK, "solutions": [["2 + 3 = 5."]]})))
    assert len(whole["data"]) == 256 and len(again["data"]) == 1
    eventually(lambda: metric("kv_pages_used") == 0)
    done = metric("engine_rows_total") - begun
    print("# %.0f of %.0f rows" % (done, rows))
    assert done < rows / 2


run([while_it_is_queued, while_its_prompt_is_evaluated, while_it_draws, while_a_search_scores,
     while_texts_are_scored])
