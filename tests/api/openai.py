"""What clients of the OpenAI-compatible routes rely on. openai.py SOCKET"""
import json
import os

from client import eventually, run, send

ASK = "Ben has 2 pens. He buys 3 more. How many pens does Ben have?"
USER = [{"role": "user", "content": ASK}]
CHAT, PROMPT = "/v1/chat/completions", "/v1/completions"


def record(path, body, r, text):
    """For described() in daemon.sh."""
    folder = os.environ.get("PONDER_TEST_EXCHANGES")
    if not folder:
        return
    name = os.path.join(folder, "py%d" % len(os.listdir(folder)))
    sent = b"" if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
    head = "HTTP/1.1 %d\r\n%s\r\n" % (r.status, "".join("%s: %s\r\n" % h for h in r.getheaders()))
    args = "\0".join(("GET" if body is None else "POST", path, str(r.status), ""))
    for ending, data in ((".args", args.encode()), (".sent", sent), (".headers", head.encode()), (".out", text)):
        with open(name + ending, "wb") as f:
            f.write(data)


def ask(path, body=None, kind="application/json"):
    c = send(path, body, kind)
    r = c.getresponse()
    text = r.read()
    c.close()
    record(path, body, r, text)
    return r.status, json.loads(text) if text else None


def good(path, body=None):
    status, v = ask(path, body)
    assert status == 200, (status, v)
    return v


def chat(**fields):
    body = {"model": "tiny-base", "seed": 1, "messages": USER}
    body.update(fields)
    return good(CHAT, body)


def stream(path, body):
    """The chunks, and whether [DONE] came last."""
    body = dict(body, stream=True)
    c = send(path, body)
    r = c.getresponse()
    text = r.read()
    c.close()
    record(path, body, r, text)
    text = text.decode()
    assert r.status == 200, text
    assert r.getheader("Content-Type").startswith("text/event-stream")
    events = [e for e in text.split("\n\n") if e and not e.startswith(":")]
    assert all(e.startswith("data: ") for e in events), text
    done = events and events[-1] == "data: [DONE]"
    return [json.loads(e[6:]) for e in events if e != "data: [DONE]"], done


def streamed(path=CHAT, **fields):
    body = {"model": "tiny-base", "seed": 1}
    body.update({"messages": USER} if path == CHAT else {})
    body.update(fields)
    chunks, done = stream(path, body)
    assert done
    return chunks


def joined(chunks, key):
    return "".join(c["choices"][0]["delta"].get(key) or "" for c in chunks if c["choices"])


# ---- the points ------------------------------------------------------------------------------

def a_chat_is_answered():
    v = chat()
    assert v["object"] == "chat.completion" and v["model"] == "tiny-base"
    assert v["id"].startswith("chatcmpl-") and isinstance(v["created"], int)
    c = v["choices"][0]
    assert c["index"] == 0 and c["finish_reason"] == "stop" and c["logprobs"] is None
    assert c["message"]["role"] == "assistant" and "boxed" in c["message"]["content"]
    assert c["message"]["reasoning"] == c["message"]["reasoning_content"] != ""
    assert v["ponder"]["strategy"] == "single" and v["ponder"]["warnings"] == []


def the_same_seed_says_the_same():
    assert chat()["choices"][0]["message"] == chat()["choices"][0]["message"]
    texts = {chat(seed=s)["choices"][0]["message"]["reasoning"] for s in range(8)}
    assert len(texts) > 1


def usage_is_the_ledger():
    for model in ("tiny-base", "tiny-base@best_of_n"):
        v = chat(model=model)
        ledger = good("/v1/jobs/%s/answer" % v["ponder"]["job"])["usage"]
        u = v["usage"]
        assert u["completion_tokens"] == ledger["generated"] == v["ponder"]["generated_tokens"]
        assert u["total_tokens"] == u["prompt_tokens"] + u["completion_tokens"]
        assert v["ponder"]["scored_tokens"] == ledger["scored"]
        assert 0 < u["completion_tokens_details"]["reasoning_tokens"] < u["completion_tokens"]


def a_stream_says_what_the_answer_says():
    whole = chat(logprobs=True, top_logprobs=2)["choices"][0]
    chunks = streamed(logprobs=True, top_logprobs=2, stream_options={"include_usage": True})
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert joined(chunks, "content") == whole["message"]["content"]
    assert joined(chunks, "reasoning_content") == whole["message"]["reasoning_content"]
    ends = [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]]
    assert ends[-1] == "stop" and set(ends[:-1]) == {None}
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] > 0
    assert len({c["id"] for c in chunks}) == 1
    told = [t for c in chunks if c["choices"] for t in (c["choices"][0]["logprobs"] or {}).get("content", [])]
    assert told == whole["logprobs"]["content"]


def usage_comes_when_it_is_asked_for():
    assert all(c["choices"] for c in streamed())


def log_probabilities_are_of_the_text():
    c = chat(logprobs=True, top_logprobs=3, temperature=0)["choices"][0]
    tokens = c["logprobs"]["content"]
    text = b"".join(bytes(t["bytes"]) for t in tokens).decode()
    assert c["message"]["content"] in text and c["message"]["reasoning"] in text
    for t in tokens:
        assert t["logprob"] <= 0 and len(t["top_logprobs"]) == 3
        assert t["top_logprobs"][0]["token"] == t["token"]  # greedy
        assert [k["logprob"] for k in t["top_logprobs"]] == sorted((k["logprob"] for k in t["top_logprobs"]), reverse=True)
    assert chat(logprobs=True)["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


def stop_strings_are_not_of_the_text():
    whole = chat(temperature=0)["choices"][0]["message"]["reasoning"]
    for stop in (whole[3:7], [whole[10:14], "never"]):
        first = stop if isinstance(stop, str) else stop[0]
        c = chat(temperature=0, stop=stop, logprobs=True)["choices"][0]
        assert c["finish_reason"] == "stop"
        assert c["message"]["reasoning"] == whole[:whole.index(first)]
        assert joined(streamed(temperature=0, stop=stop), "reasoning") == c["message"]["reasoning"]
        said = "".join(t["token"] for t in c["logprobs"]["content"])
        assert said.startswith(c["message"]["reasoning"])


def lengths_are_kept():
    v = chat(max_tokens=5)
    assert v["choices"][0]["finish_reason"] == "length" and v["usage"]["completion_tokens"] == 5
    assert chat(max_completion_tokens=3)["usage"]["completion_tokens"] == 3


def penalties_and_biases_count():
    first = chat(temperature=0, logprobs=True)["choices"][0]["logprobs"]["content"][0]
    ids = good("/tokenize", {"content": first["token"]})["tokens"]
    assert len(ids) == 1
    other = chat(temperature=0, logprobs=True, logit_bias={str(ids[0]): -100})
    assert all(t["token"] != first["token"] for t in other["choices"][0]["logprobs"]["content"])
    assert chat(temperature=0, presence_penalty=0)["choices"] == chat(temperature=0)["choices"]


def choices_are_the_best_that_differ():
    v = chat(n=3, temperature=1.2)
    texts = [c["message"]["reasoning"] + c["message"]["content"] for c in v["choices"]]
    assert [c["index"] for c in v["choices"]] == [0, 1, 2] and len(set(texts)) == 3
    v = chat(n=3, temperature=0)
    assert len(v["choices"]) == 1 and "differ" in v["ponder"]["warnings"][0]
    v = chat(model="tiny-base@best_of_n", n=4)
    scores = [c["ponder"]["score"] for c in v["choices"][1:]]
    assert scores == sorted(scores, reverse=True)
    assert len({c["message"]["content"] for c in v["choices"]}) == len(v["choices"])
    chunks = streamed(n=2, temperature=1.2)
    assert {c["choices"][0]["index"] for c in chunks} == {0, 1}


def a_search_gives_its_answer():
    v = chat(ponder={"strategy": "self_consistency", "options": {"samples": 4}, "budget": {"tokens": 400}})
    m = v["choices"][0]["message"]
    assert m["content"].isdigit() and "boxed{%s}" % m["content"] in m["reasoning"]
    assert v["ponder"]["strategy"] == "self_consistency" and v["usage"]["completion_tokens"] <= 400
    assert chat(budget=2, ponder={"strategy": "self_consistency"})["ponder"]["samples"] == 2
    assert chat(reasoning_effort="low", ponder={"strategy": "best_of_n"})["ponder"]["samples"] == 4


def a_search_is_streamed_in_three_ways():
    ponder = {"strategy": "beam"}
    v = chat(ponder=ponder)
    for mode in ("answer", "reasoning", "events"):
        chunks = streamed(ponder=dict(ponder, stream_mode=mode))
        assert joined(chunks, "content") == v["choices"][0]["message"]["content"]
        assert (joined(chunks, "reasoning") == "") == (mode == "answer")
        events = [c["ponder"]["type"] for c in chunks if "type" in c.get("ponder", {})]
        assert (events.count("node.added") == v["ponder"]["nodes"]) == (mode == "events")
        if mode == "reasoning":
            assert "[branch n" in joined(chunks, "reasoning")


def turns_are_kept():
    one = chat()["usage"]["prompt_tokens"]
    turns = [{"role": "system", "content": "Count."}, {"role": "user", "content": "1 + 1?"},
             {"role": "assistant", "content": "2", "reasoning_content": "easy"}] + USER
    assert chat(messages=turns)["usage"]["prompt_tokens"] > one
    parts = [{"role": "user", "content": [{"type": "text", "text": ASK[:10]}, {"type": "text", "text": ASK[10:]}]}]
    assert chat(messages=parts)["choices"][0]["message"] == chat()["choices"][0]["message"]


def a_turn_goes_on():
    begun = USER + [{"role": "assistant", "content": "Ben now has 2 + 3 = 5"}]
    prompt = good("/apply-template", {"messages": begun})["prompt"]
    assert prompt.endswith("<think>\nBen now has 2 + 3 = 5")
    text = chat(messages=begun, temperature=0)["choices"][0]["message"]["reasoning"]
    assert not text.startswith("Ben now")
    fresh = good("/apply-template", {"messages": begun, "continue_final_message": False})["prompt"]
    assert fresh.endswith("<think>\n")


def completions_take_texts_and_tokens():
    greedy = {"model": "tiny-base", "temperature": 0}
    v = good(PROMPT, dict(greedy, prompt="Ben has"))
    assert v["object"] == "text_completion" and v["usage"]["completion_tokens"] <= 16
    ids = good("/tokenize", {"content": "Ben has", "add_special": True})["tokens"]
    again = good(PROMPT, dict(greedy, prompt=ids))
    assert again["choices"][0]["text"] == v["choices"][0]["text"]
    assert again["usage"]["prompt_tokens"] == len(ids)
    both = good(PROMPT, dict(greedy, prompt=["Ben has", "Sam has"]))
    assert [c["index"] for c in sorted(both["choices"], key=lambda c: c["index"])] == [0, 1]
    assert [c["text"] for c in both["choices"] if c["index"] == 0][0] == v["choices"][0]["text"]
    assert both["usage"]["prompt_tokens"] == 2 * len(ids)
    chunks = streamed(PROMPT, prompt="Ben has", temperature=0)
    assert "".join(c["choices"][0]["text"] for c in chunks) == v["choices"][0]["text"]
    # the text of a control token is one here, and none in a chat
    rendered = good("/apply-template", {"messages": USER})["prompt"]
    raw = good(PROMPT, dict(greedy, prompt=rendered, max_tokens=200))
    assert raw["choices"][0]["text"].endswith(chat(temperature=0)["choices"][0]["message"]["content"])
    lp = good(PROMPT, {"model": "tiny-base", "prompt": "Ben has", "seed": 1, "logprobs": 2})["choices"][0]
    assert "".join(lp["logprobs"]["tokens"]) == lp["text"]
    assert all(len(t) == 2 for t in lp["logprobs"]["top_logprobs"])
    chunks = streamed(PROMPT, prompt="Ben has", seed=1, logprobs=2)
    for key, told in lp["logprobs"].items():
        assert [x for c in chunks for x in (c["choices"][0]["logprobs"] or {}).get(key, [])] == told, key


def models_are_listed():
    names = [m["id"] for m in good("/v1/models")["data"]]
    assert "tiny-base-Q8_0" in names
    m = good("/v1/models/tiny-base@beam")
    assert m["id"] == "tiny-base@beam" and m["ponder"]["kind"] == "profile" and m["ponder"]["ctx"] == 512
    for name in ("nope", "tiny-base@nope"):
        status, v = ask("/v1/models/" + name)
        assert status == 404 and v["error"]["code"] == "model_not_found"


def tokens_go_there_and_back():
    text = "<|im_end|> 12 + \u00e9"
    ids = good("/tokenize", {"content": text})["tokens"]
    assert good("/detokenize", {"tokens": ids})["content"] == text
    plain = good("/tokenize", {"content": text, "parse_special": False})
    assert plain["count"] > len(ids) and plain["max_model_len"] == 512
    pieces = good("/tokenize", {"content": "\u00e9\u4e00", "with_pieces": True})["tokens"]
    assert b"".join(bytes(p["piece"]) if isinstance(p["piece"], list) else p["piece"].encode()
                    for p in pieces).decode() == "\u00e9\u4e00"
    assert good("/tokenize", {"messages": USER})["count"] == chat()["usage"]["prompt_tokens"]


def long_bodies_are_read_too():
    text = "12 + 3 " * 20000  # longer than what the loop parses itself
    assert good("/tokenize", {"content": text})["count"] > 20000
    assert ask("/tokenize", '{"content": "%s"' % text)[1]["error"]["code"] == "bad_json"
    assert ask("/tokenize", '["%s"]' % text)[1]["error"]["message"] == "the body must be a JSON object"


def every_score_is_in_the_tree():
    job = chat(model="tiny-base@beam")["ponder"]["job"]
    c = send("/v1/jobs/%s/events" % job)
    events = [json.loads(line[6:]) for line in c.getresponse().read().decode().splitlines() if line.startswith("data: ")]
    c.close()
    told = {e["node"]: e["value"] for e in events if "scorer" in e and "node" in e}
    nodes = good("/v1/jobs/%s/tree?form=flat" % job)["nodes"]
    assert told and {n["node"]: n["score"] for n in nodes if n["score"] is not None} == told


def texts_are_scored():
    body = {"model": "tiny-prm", "problem": ASK, "solutions": [["2 + 3 = 5.", "The answer is \\boxed{5}."], ["2 + 3 = 9."]]}
    v = good("/v1/score", body)
    a, b = v["data"]
    assert len(a["steps"]) == 2 and len(b["steps"]) == 1 and v["usage"]["prompt_tokens"] > 0
    assert a["aggregate"]["min"] == min(a["steps"]) and a["aggregate"]["last"] == a["steps"][1]
    assert abs(a["aggregate"]["prod"] - a["steps"][0] * a["steps"][1]) < 1e-12
    assert list(good("/v1/score", dict(body, aggregate=["mean"]))["data"][0]["aggregate"]) == ["mean"]
    docs = [s[0] for s in body["solutions"]] + [{"text": "2 + 3 = 5."}]
    r = good("/v1/rerank", {"query": ASK, "documents": docs, "top_n": 2})["results"]
    assert len(r) == 2 and r[0]["relevance_score"] >= r[1]["relevance_score"]
    assert all(x["document"]["text"] == (docs[x["index"]] if x["index"] < 2 else "2 + 3 = 5.") for x in r)


SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer", "maximum": 99},
          "unit": {"enum": ["apples", "coins"]}}, "required": ["answer", "unit"]}


def fits(text):
    v = json.loads(text)
    return list(v) == ["answer", "unit"] and isinstance(v["answer"], int) and v["answer"] <= 99 \
        and v["unit"] in ("apples", "coins")


def answers_have_their_form():
    form = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}
    for ponder in ({}, {"strategy": "self_consistency", "options": {"samples": 4}},
                   {"strategy": "beam", "options": {"samples": 4}}):
        r = chat(response_format=form, ponder=dict(ponder, seed=5))
        c = r["choices"][0]
        assert c["finish_reason"] == "stop" and fits(c["message"]["content"]), c
        assert r["ponder"]["warnings"] == [], r
        chunks = streamed(response_format=form, ponder=dict(ponder, seed=5))
        assert joined(chunks, "content") == c["message"]["content"]
    r = chat(response_format={"type": "json_object"}, seed=1, max_tokens=400)["choices"][0]
    if r["finish_reason"] == "stop":
        assert isinstance(json.loads(r["message"]["content"]), dict)
    assert chat(json_schema={"const": [1, "x"]}, seed=1)["choices"][0]["message"]["content"] == '[1,"x"]'
    r = good(PROMPT, {"prompt": "Yes or no?", "grammar": 'root ::= "yes" | "no"', "seed": 1,
                      "constrain_after": ":", "ponder": {"budget": {"tokens": 200}}, "max_tokens": 200})
    text = r["choices"][0]["text"]
    assert r["choices"][0]["finish_reason"] == "length" or text.split(":", 1)[1].strip() in ("yes", "no"), text


def what_is_wrong_is_named():
    cases = [
        (CHAT, {}, 400, "missing_field", "messages"),
        (CHAT, {"messages": [{"role": "king", "content": "x"}]}, 400, "unsupported_value", "messages"),
        (CHAT, {"n": 0}, 400, "out_of_range", "n"),
        (CHAT, {"n": 1.5}, 400, "out_of_range", "n"),
        (CHAT, {"temperature": 2.1}, 400, "out_of_range", "temperature"),
        (CHAT, {"top_p": 0}, 400, "out_of_range", "top_p"),
        (CHAT, {"seed": -1}, 400, "out_of_range", "seed"),
        (CHAT, {"stop": ["x"] * 17}, 400, "out_of_range", "stop"),
        (CHAT, {"stop": ""}, 400, "out_of_range", "stop"),
        (CHAT, {"presence_penalty": 3}, 400, "out_of_range", "presence_penalty"),
        (CHAT, {"logit_bias": {"x": 1}}, 400, "out_of_range", "logit_bias"),
        (CHAT, {"logprobs": True, "top_logprobs": 21}, 400, "out_of_range", "top_logprobs"),
        (CHAT, {"top_logprobs": 2}, 400, "unsupported_value", "top_logprobs"),
        (CHAT, {"response_format": {"type": "xml"}}, 400, "unsupported_value", "response_format"),
        (CHAT, {"json_schema": {"not": {}}}, 400, "unsupported_value", None),
        (CHAT, {"json_schema": {"pattern": "^(a|b)*a(a|b){30}$"}}, 400, "schema_too_complex", None),
        (CHAT, {"grammar": "root ::= x"}, 400, "unsupported_value", None),
        (CHAT, {"grammar": "root ::= .", "json_schema": {}}, 400, "unsupported_value", "grammar"),
        (CHAT, {"grammar": "root ::= .", "constrain_after": ""}, 400, "unsupported_value", "grammar"),
        (CHAT, {"response_format": {"type": "json_schema", "json_schema": {}}}, 400, "unsupported_value", "response_format"),
        (CHAT, {"tool_choice": "required"}, 400, "unsupported_value", "tool_choice"),
        (CHAT, {"tool_choice": {"type": "function", "function": {"name": "f"}}}, 400, "unsupported_value", "tool_choice"),
        (CHAT, {"tool_choice": "required", "tools": [{"type": "function", "function": {"name": "f"}}],
                "response_format": {"type": "json_object"}}, 400, "unsupported_value", "tool_choice"),
        (CHAT, {"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "unsupported_value", None),
        (CHAT, {"model": "nope"}, 404, "model_not_found", None),
        (CHAT, {"model": "../x"}, 400, "unsupported_value", "model"),
        (CHAT, {"model": "tiny-base@nope"}, 400, "unsupported_value", None),
        (CHAT, {"ponder": {"foo": 1}}, 400, "unknown_field", "ponder.foo"),
        (CHAT, {"ponder": {"stream_mode": "x"}}, 400, "unsupported_value", "ponder.stream_mode"),
        (CHAT, {"ponder": {"job": True}}, 400, "unsupported_value", "ponder.job"),
        (CHAT, {"ponder": {"budget": {"tokens": 0}}}, 400, "out_of_range", "ponder.budget.tokens"),
        (CHAT, {"messages": [{"role": "user", "content": "x" * 3000}]}, 400, "context_length_exceeded", None),
        (PROMPT, {}, 400, "missing_field", "prompt"),
        (PROMPT, {"prompt": [[1], 5]}, 400, "unsupported_value", "prompt"),
        (PROMPT, {"prompt": [99999999]}, 400, "unsupported_value", None),
        (PROMPT, {"prompt": "x", "echo": True}, 400, "unsupported_value", "echo"),
        ("/v1/score", {"problem": "x"}, 400, "missing_field", "solutions"),
        ("/v1/score", {"problem": "x", "solutions": [["a", ""]]}, 400, "unsupported_value", "solutions"),
        ("/v1/score", {"model": "oracle", "problem": "x", "solutions": [["a"]]}, 400, "unsupported_value", None),
        ("/v1/rerank", {"query": "x", "documents": []}, 400, "out_of_range", "documents"),
        ("/detokenize", {"tokens": [-1]}, 400, "unsupported_value", None),
        ("/tokenize", {"model": "nope", "content": "x"}, 404, "model_not_found", None),
    ]
    for path, fields, status, code, param in cases:
        body = dict({"messages": USER} if path == CHAT and fields else {}, **fields)
        for streams in (False, True) if path in (CHAT, PROMPT) else (False,):
            got, v = ask(path, dict(body, stream=streams) if streams else body)
            assert (got, v["error"]["code"], v["error"]["param"]) == (status, code, param), (fields, got, v)
            assert v["error"]["message"] and v["request_id"].startswith("req_")
    assert ask(CHAT, "{", )[1]["error"]["code"] == "bad_json"
    assert ask(CHAT, "{}", "text/plain")[0] == 415


def a_job_that_is_cancelled_ends_its_request():
    body = {"model": "tiny-base", "messages": USER,
            "ponder": {"strategy": "self_consistency", "options": {"samples": 256, "temperature": 2, "max_tokens": 400}}}
    for streams in (False, True):
        c = send(CHAT, dict(body, stream=streams))
        job, = eventually(lambda: [j["id"] for j in good("/v1/jobs?status=running")["data"]
                                   if not streams or j["progress"] and j["progress"]["tokens"] > 50])
        assert good("/v1/jobs/%s/cancel" % job, {})["status"] == "cancelled"
        r = c.getresponse()
        text = r.read()
        record(CHAT, dict(body, stream=streams), r, text)
        if not streams:
            assert r.status == 409
        error = json.loads(text.decode().rstrip().split("data: ")[-1])["error"]
        assert (error["type"], error["code"]) == ("conflict_error", "bad_state") and "cancelled" in error["message"]
        c.close()


def unknown_fields_are_named_once():
    v = chat(frobnicate=1, foo=[2])
    assert v["ponder"]["warnings"] == ["ignored, as not known: frobnicate, foo"]


POINTS = [a_chat_is_answered, the_same_seed_says_the_same, usage_is_the_ledger,
          a_stream_says_what_the_answer_says, usage_comes_when_it_is_asked_for,
          log_probabilities_are_of_the_text, stop_strings_are_not_of_the_text, lengths_are_kept,
          penalties_and_biases_count, choices_are_the_best_that_differ, a_search_gives_its_answer,
          a_search_is_streamed_in_three_ways, turns_are_kept, a_turn_goes_on,
          completions_take_texts_and_tokens, models_are_listed, tokens_go_there_and_back,
          long_bodies_are_read_too, every_score_is_in_the_tree, texts_are_scored,
          answers_have_their_form, what_is_wrong_is_named, a_job_that_is_cancelled_ends_its_request,
          unknown_fields_are_named_once]

run(POINTS)
