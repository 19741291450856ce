"""Answers with a form, judged by python3-jsonschema: every line that ends is valid. TAP."""
import json
import os
import subprocess
import sys

import jsonschema

PONDER, TMP = sys.argv[1:3]
ASK = "Tom has 3 apples and buys 4 more. How many apples has he?"

SCHEMAS = {
    "object": {"type": "object", "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 8}, "n": {"type": "integer", "minimum": -5, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "\u00e9\"\\"]}, "minItems": 1, "maxItems": 3},
        "more": {"type": ["null", "boolean"]}}, "required": ["name", "n"], "additionalProperties": False},
    "others": {"type": "object", "properties": {"ab": {"const": 1}}, "additionalProperties": {"type": "boolean"}},
    "required alone": {"type": "object", "required": ["x"], "properties": {"y": {"type": "null"}}, "additionalProperties": {"type": "integer"}},
    "numbers": {"type": "array", "items": {"type": "number", "exclusiveMinimum": -1.5, "maximum": 20.25}, "minItems": 2, "maxItems": 4},
    "multiples": {"type": "integer", "multipleOf": 12, "minimum": 10, "exclusiveMaximum": 5000},
    "negative": {"type": "number", "exclusiveMaximum": 0, "minimum": -0.75},
    "pattern": {"type": "string", "pattern": "^[A-Z][a-z]{1,4}(-[0-9]+)?$", "maxLength": 7},
    "pattern inside": {"type": "string", "pattern": "x[0-9]", "maxLength": 10},
    "date": {"type": "string", "format": "date"},
    "date-time": {"type": "string", "format": "date-time"},
    "uuid": {"type": "string", "format": "uuid"},
    "ipv4": {"type": "string", "format": "ipv4"},
    "email": {"type": "string", "format": "email", "maxLength": 20},
    "any of": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 99}, {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}]},
    "one of": {"oneOf": [{"type": "object", "properties": {"kind": {"const": "dot"}}, "required": ["kind"]},
                         {"type": "object", "properties": {"kind": {"const": "line"}, "to": {"enum": [1, 2]}}, "required": ["kind", "to"]}]},
    "all of": {"allOf": [{"type": "object", "properties": {"a": {"type": "integer", "maximum": 50}}, "required": ["a"]},
                         {"properties": {"a": {"minimum": 7}, "b": {"enum": ["u", "v"]}}, "required": ["b"]}]},
    "recursive": {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {
        "v": {"type": "integer", "minimum": 0, "maximum": 9}, "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 1}},
        "required": ["v"]}}},
    "tuple": {"type": "array", "prefixItems": [{"const": "p"}, {"type": "boolean"}], "items": False},
    "enum": {"enum": ["red", 3, None, {"deep": [1, {"er": ""}]}]},
    "strings": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
}


def ponder(*args, ok=(0,)):
    r = subprocess.run([PONDER, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert r.returncode in ok, (args, r.returncode, r.stderr[:400])
    return r


def write(name, text):
    path = os.path.join(TMP, name)
    with open(path, "w") as f:
        f.write(text)
    return path


def lines(job):
    """The lines that ended by themselves, behind their thoughts."""
    for row in ponder("trace", "export", job).stdout.splitlines():
        row = json.loads(row)
        if row["type"] == "node" and row["finish"] == "eos":
            yield row["text"].split("</think>", 1)[-1].strip()


def valid(name, schema):
    path, n = write("schema.json", json.dumps(schema, indent=1)), 0
    judge = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    for temperature in "1", "2":
        out = ponder("solve", "--schema", path, "-s", "self_consistency", "-o", "samples=12", "-o", "max_tokens=500",
                     "-o", "temperature=" + temperature, "--chat-template", "none", "--json", "The:", ok=(0, 1, 5)).stdout
        for text in lines(json.loads(out)["trace"]):
            judge.validate(json.loads(text))
            n += 1
    assert n > 0, "no line of %s ended" % name


def every_line_is_valid():
    for name, schema in SCHEMAS.items():
        valid(name, schema)


def every_strategy_has_its_form():
    path = write("g.gbnf", 'root ::= "The answer is \\\\boxed{" [0-9]{1,3} "}."\n')
    names = [s["name"] for s in json.loads(ponder("solve", "--strategies", "--json").stdout)]
    names.remove("hogwild")  # its lines are written by several
    r = ponder("solve", "--grammar", path, "-s", "hogwild", ASK, ok=(2,))
    assert "written together cannot have a form" in r.stderr, r.stderr
    names.remove("subtask_prune")
    r = ponder("solve", "--grammar", path, "-s", "subtask_prune", ASK, ok=(2,))
    assert "writes in a form of its own" in r.stderr, r.stderr
    more = {"compute_optimal": ["-o", "table=.5;1@1,self_consistency(samples=6),1,1;2@1,single,1,1"]}
    for name in names:
        r = json.loads(ponder("solve", "--grammar", path, "-s", name, *more.get(name, []), "--json", ASK).stdout)
        assert r["answer"].isdigit(), (name, r["answer"])
        assert r["steps"][-1]["text"].endswith("The answer is \\boxed{%s}." % r["answer"]), (name, r["steps"])


def solve(*args):
    return json.loads(ponder("solve", "--schema", write("s.json", json.dumps(SCHEMAS["object"], indent=1)),
                             "-s", "self_consistency", "-o", "samples=4", "--json", *args, ASK).stdout)


def nothing_but_the_seed_counts():
    r = solve()
    for args in (["--threads", "1"], ["--prefill-chunk", "3"], ["-o", "speculate=lookup"], ["-o", "speculate=draft"]):
        assert solve(*args)["digest"] == r["digest"], args
    assert solve("--seed", "2")["digest"] != r["digest"]
    ponder("replay", r["trace"])
    ponder("replay", r["trace"], "--verify")


def votes_are_by_meaning():
    path = write("s.json", '{"type":"object","properties":{"a":{"const":1},"b":{"enum":[2]}},"required":["a","b"]}')
    r = json.loads(ponder("solve", "--schema", path, "-s", "self_consistency", "-o", "samples=6", "--json", "--expect",
                          '{ "b": 2.0, "a": 1 }', ASK).stdout)
    assert r["correct"] and r["key"] == '{"a":1,"b":2}' and r["support"]["agree"] >= 2, r


def free_text_comes_first():
    path = write("g.gbnf", 'root ::= "yes" | "no"')
    r = json.loads(ponder("solve", "--grammar", path, "--constrain-after", "=", "-s", "single", "--json", ASK).stdout)
    assert r["answer"] in ("yes", "no"), r


def a_budget_wraps_up():
    path = write("s.json", '{"type":"integer","minimum":0,"maximum":99}')
    r = json.loads(ponder("solve", "--schema", path, "-s", "single", "--budget-tokens", "80", "-o", "max_step_tokens=256",
                          "--wrap-up", "So:", "-o", "temperature=2", "--seed", "3", "--json", ASK, ok=(0, 5)).stdout)
    assert r["answer"] is None or 0 <= int(r["answer"]) <= 99, r


def errors_are_clear():
    for kind, text, code, says in (("--schema", '{"properties":{"a":{"not":{}}}}', 2, "at '#/properties/a/not': this keyword"),
                                   ("--schema", "{", 3, "in '"), ("--schema", '{"pattern":"(a|b)*a(a|b){40}"}', 3, "too complex"),
                                   ("--grammar", "root ::= x", 2, "there is no rule 'x'")):
        r = ponder("solve", kind, write("bad", text), ASK, ok=(code,))
        assert says in r.stderr, r.stderr
    assert "exclude" in ponder("solve", "--schema", "a", "--grammar", "b", ASK, ok=(2,)).stderr
    ponder("solve", "--constrain-after", "x", ASK, ok=(2,))
    ponder("solve", "--schema", os.path.join(TMP, "none"), ASK, ok=(3,))


POINTS = [every_line_is_valid, every_strategy_has_its_form, nothing_but_the_seed_counts, votes_are_by_meaning,
          free_text_comes_first, a_budget_wraps_up, errors_are_clear]
failed = 0
print("1..%d" % len(POINTS), flush=True)
for i, point in enumerate(POINTS):
    try:
        point()
        print("ok %d - %s" % (i + 1, point.__name__), flush=True)
    except Exception as e:  # one point that fails does not hide the others
        failed += 1
        print("not ok %d - %s" % (i + 1, point.__name__))
        print("# %s %s" % (type(e).__name__, str(e)[:600].replace("\n", " ")), flush=True)
sys.exit(failed > 0)
