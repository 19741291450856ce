"""Checks a trace in another program's form against the same trace as JSON Lines.

usage: export.py otlp-json|inspect|perfetto FILE JOB.jsonl.  An assertion fails when something is wrong.
"""
import json
import re
import sys

form, path, lines = sys.argv[1:]
rows = [json.loads(line) for line in open(lines)]
job, = (r for r in rows if r["type"] == "job")
nodes, calls, scores = ([r for r in rows if r["type"] == t] for t in ("node", "call", "score"))
text = open(path).read()
out = json.loads(text)
drawn = sum(c["generated_tokens"] for c in calls)


def attributes(of):
    """By the protocol's JSON encoding: one value each, 64-bit integers as texts."""
    result = {}
    for a in of:
        (kind, value), = a["value"].items()
        assert kind in ("stringValue", "intValue", "doubleValue", "boolValue", "arrayValue"), kind
        assert isinstance(value, {"doubleValue": (int, float), "boolValue": bool, "arrayValue": dict}.get(kind, str)), a
        result[a["key"]] = int(value) if kind == "intValue" else value
    assert len(result) == len(of)
    return result


if form == "otlp-json":
    assert text.count("\n") == 1 and text.endswith("\n")
    resource, = out["resourceSpans"]
    assert attributes(resource["resource"]["attributes"])["service.name"] == "ponder"
    scope, = resource["scopeSpans"]
    root, *children = scope["spans"]
    ids = [s["spanId"] for s in scope["spans"]]
    assert len(set(ids)) == len(ids) and all(re.fullmatch("[0-9a-f]{16}", i) for i in ids)
    assert {s["traceId"] for s in scope["spans"]} == {root["traceId"]} and re.fullmatch("[0-9a-f]{32}", root["traceId"])
    assert "parentSpanId" not in root and all(s["parentSpanId"] == root["spanId"] for s in children)
    assert root["name"] == "invoke_agent beam" and root["kind"] == 1 and len(children) == len(calls)
    for s in scope["spans"]:
        assert all(re.fullmatch("[0-9]+", s[k]) for k in ("startTimeUnixNano", "endTimeUnixNano"))
        assert int(s["startTimeUnixNano"]) <= int(s["endTimeUnixNano"]) and s["status"]["code"] == 1
    a = attributes(root["attributes"])
    assert a["gen_ai.operation.name"] == "invoke_agent" and a["gen_ai.request.model"] == job["model"]
    assert a["gen_ai.usage.output_tokens"] == drawn and a["ponder.job"] == job["id"]
    assert a["gen_ai.request.seed"] == job["seed"] and a["gen_ai.request.temperature"] == job["options"]["temperature"]
    for span, call in zip(children, calls):
        a = attributes(span["attributes"])
        assert span["name"] == ("text_completion" if call["op"] == "generate" else call["op"]) + " " + call["model"]
        assert a["gen_ai.usage.output_tokens"] == call["generated_tokens"]
        assert a["gen_ai.usage.input_tokens"] == call["prompt_tokens"]
        assert int(span["startTimeUnixNano"]) == call["started_ms"] * 10**6
    assert len(root["events"]) == len(scores) > 0
    for event, score in zip(root["events"], scores):
        a = attributes(event["attributes"])
        assert event["name"] == "gen_ai.evaluation.result" and a["gen_ai.evaluation.name"] == score["scorer"]
        assert a["gen_ai.evaluation.score.value"] == score["value"] and a["ponder.node"] == score["node"]
elif form == "inspect":
    assert out["version"] == 2 and out["status"] == "success"
    assert {"eval", "plan", "results", "stats", "samples"} <= set(out)
    assert out["eval"]["task"] == "beam" and out["eval"]["model"] == job["model"] and out["eval"]["config"] == job["options"]
    sample, = out["samples"]
    assert sample["epoch"] == 1 and sample["input"] == job["request"]["question"] and sample["target"] == job["request"]["expect"]
    assert [m["role"] for m in sample["messages"]] == ["user", "assistant"]
    by_id, line, at = {n["id"]: n for n in nodes}, "", job["answer_node"]
    while by_id[at]["finish"] != "prompt":
        line, at = by_id[at]["text"] + line, by_id[at]["parent"]
    assert sample["output"]["choices"][0]["message"]["content"] == line
    assert sample["scores"]["ponder"] == {"value": "C" if job["correct"] else "I", "answer": job["answer"]}
    assert out["results"]["scores"][0]["metrics"]["accuracy"]["value"] == int(job["correct"])
    use = out["stats"]["model_usage"][job["model"]]
    assert use["output_tokens"] == drawn and use["total_tokens"] == use["input_tokens"] + drawn
else:
    events = out["traceEvents"]
    assert {e["ph"] for e in events} == {"X", "C", "s", "f", "M"}
    assert all(isinstance(e["pid"], int) and isinstance(e["tid"], int) for e in events)
    done = [e for e in events if e["ph"] == "X"]
    assert [e["ts"] for e in done] == [c["started_ms"] * 1000 for c in calls]
    assert [e["dur"] for e in done] == [(c["ended_ms"] - c["started_ms"]) * 1000 for c in calls]
    assert {e["args"]["name"] for e in events if e["ph"] == "M"} == {"local: " + m for m in {c["model"] for c in calls}}
    assert max(e["args"]["tokens"] for e in events if e["ph"] == "C") == drawn
    arrows = sum(n["call"] is not None and n["parent"] != n["id"] and
                 next(p["call"] for p in nodes if p["id"] == n["parent"]) is not None for n in nodes)
    starts, ends = ([e["id"] for e in events if e["ph"] == p] for p in "sf")
    assert sorted(starts) == sorted(ends) and len(starts) == arrows > 0
    assert all(e["bp"] == "e" for e in events if e["ph"] == "f")
