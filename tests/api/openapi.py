"""docs/openapi.json against the daemon.

openapi.py file                 the file itself: a line for each fault
openapi.py routes FILE...       the route tables in these sources, against its paths
openapi.py exchanges FOLDER     requests and replies that a test recorded (see record() in daemon.sh)

Prints what is wrong, a line each; nothing: all is well. What a route answers must be declared: its
status, its media type, every member of its JSON. What it takes must be too: a request that it has
answered with 2xx fits the schema, one that it has refused for a field does not.
"""
import json
import os
import re
import sys
import urllib.parse

from jsonschema import Draft202012Validator as Validator, SchemaError

SPEC = json.load(open(os.path.join(os.environ.get("PONDER_TEST_SRCDIR", "."), "docs", "openapi.json"),
                      encoding="utf-8"))
METHODS = ("get", "post", "delete")
faults = []


def fault(text, *values):
    faults.append(text % values)


def resolve(v):
    while "$ref" in v:
        name = v["$ref"]
        v = SPEC
        for key in name.lstrip("#/").split("/"):
            v = v[key]
    return v


def closed(v):
    """The same schema, with every object that says nothing about more members taking none."""
    if isinstance(v, list):
        return [closed(x) for x in v]
    if not isinstance(v, dict):
        return v
    v = {k: closed(x) for k, x in v.items()}
    if "properties" in v and v.get("type") == "object" and "additionalProperties" not in v:
        v["additionalProperties"] = False
    return v


def errors(components, schema, value):
    v = Validator(dict(schema, components=components))
    return ["%s: %s" % (e.json_path, e.message[:300]) for e in v.iter_errors(value)]


TAKEN = SPEC["components"]
GIVEN = closed(TAKEN)

# ---- the file --------------------------------------------------------------------------------

# The part of the OpenAPI 3.1 document schema that this file uses; what is not named is not allowed.
TEXT = {"type": "string", "minLength": 1}
META = {
    "$defs": {
        "schema": {"type": "object"},
        "media": {"type": "object", "minProperties": 1, "additionalProperties": {
            "type": "object", "required": ["schema"], "additionalProperties": False,
            "properties": {"schema": {"$ref": "#/$defs/schema"}, "x-itemSchema": {"$ref": "#/$defs/schema"}}}},
        "parameter": {
            "type": "object", "required": ["name", "in", "schema", "description"], "additionalProperties": False,
            "properties": {"name": TEXT, "in": {"enum": ["query", "header", "path"]}, "required": {"type": "boolean"},
                           "description": TEXT, "schema": {"$ref": "#/$defs/schema"}},
            "if": {"properties": {"in": {"const": "path"}}}, "then": {"required": ["required"]}},
        "response": {
            "type": "object", "required": ["description"], "additionalProperties": False,
            "properties": {"description": TEXT, "content": {"$ref": "#/$defs/media"},
                           "headers": {"type": "object", "additionalProperties": {
                               "type": "object", "required": ["schema"],
                               "properties": {"schema": {"$ref": "#/$defs/schema"}}}}}},
        "operation": {
            "type": "object", "required": ["operationId", "tags", "summary", "responses"],
            "additionalProperties": False,
            "properties": {
                "operationId": TEXT, "tags": {"type": "array", "items": TEXT}, "summary": TEXT,
                "security": {"const": []},
                "parameters": {"type": "array", "items": {"$ref": "#/$defs/parameter"}},
                "requestBody": {"type": "object", "required": ["content"],
                                "properties": {"content": {"$ref": "#/$defs/media"}}},
                "responses": {"type": "object", "minProperties": 1, "propertyNames": {"pattern": "^[1-5][0-9][0-9]$"},
                              "additionalProperties": {"anyOf": [
                                  {"$ref": "#/$defs/response"},
                                  {"type": "object", "required": ["$ref"], "maxProperties": 1}]}}}},
    },
    "type": "object", "required": ["openapi", "info", "paths", "components"], "additionalProperties": False,
    "properties": {
        "openapi": {"const": "3.1.0"},
        "info": {"type": "object", "required": ["title", "version"]},
        "servers": {"type": "array"}, "security": {"type": "array"}, "tags": {"type": "array"},
        "paths": {"type": "object", "propertyNames": {"pattern": "^/"}, "additionalProperties": {
            "type": "object", "additionalProperties": False,
            "properties": dict({m: {"$ref": "#/$defs/operation"} for m in METHODS},
                               parameters={"type": "array", "items": {"$ref": "#/$defs/parameter"}})}},
        "components": {"type": "object", "additionalProperties": False, "properties": {
            "schemas": {"type": "object", "additionalProperties": {"$ref": "#/$defs/schema"}},
            "responses": {"type": "object", "additionalProperties": {"$ref": "#/$defs/response"}},
            "securitySchemes": {"type": "object"}}},
    },
}


def each(v, path="#"):
    yield path, v
    for key, x in v.items() if isinstance(v, dict) else enumerate(v) if isinstance(v, list) else ():
        yield from each(x, "%s/%s" % (path, key))


def check_file():
    for e in Validator(META).iter_errors(SPEC):
        fault("%s: %s", e.json_path, e.message[:200])
    used, ids = set(), []
    for path, v in each(SPEC):
        if isinstance(v, dict) and isinstance(v.get("$ref"), str):
            used.add(v["$ref"])
            try:
                resolve(v)
            except KeyError:
                fault("%s: there is no %s", path, v["$ref"])
        if isinstance(v, dict) and ("schema" in v or "x-itemSchema" in v):
            for key in ("schema", "x-itemSchema"):
                check_schema(path, v.get(key))
    for name, schema in SPEC["components"]["schemas"].items():
        check_schema(name, schema)
    for kind in ("schemas", "responses"):
        for name in SPEC["components"][kind]:
            if "#/components/%s/%s" % (kind, name) not in used:
                fault("%s %s is not used", kind, name)
    for path, item in SPEC["paths"].items():
        named = {p["name"] for p in item.get("parameters", []) if p["in"] == "path"}
        if named != set(re.findall(r"{(\w+)}", path)):
            fault("%s: its parameters are %s", path, sorted(named))
        ids += [item[m]["operationId"] for m in METHODS if m in item]
    if len(ids) != len(set(ids)):
        fault("an operationId is there twice")


def check_schema(path, schema):
    if schema is None:
        return
    try:
        Validator.check_schema(schema)
    except SchemaError as e:
        fault("%s: %s", path, e.message[:200])


# ---- routes ----------------------------------------------------------------------------------

def check_routes(files):
    routes = set()
    for name in files:
        text = open(name, encoding="utf-8").read()
        routes |= set(re.findall(r'{HTTP_([A-Z]+),\s*"(/[^"]*)"', text))
    described = {(m.upper(), path) for path, item in SPEC["paths"].items() for m in METHODS if m in item}
    if len(routes) < 10:
        fault("only %d routes were found in the sources", len(routes))
    for method, path in sorted(routes - described):
        fault("%s %s is a route, but not in docs/openapi.json: describe it there", method, path)
    for method, path in sorted(described - routes):
        fault("%s %s is in docs/openapi.json, but no route", method, path)


# ---- exchanges -------------------------------------------------------------------------------

def find(method, path):
    """(template, item, operation): None where there is no such thing."""
    for template, item in SPEC["paths"].items():
        if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path):
            return template, item, item.get(method.lower().replace("head", "get"))
    return None, None, None


class Exchange:
    def __init__(self, folder, name):
        def read(ending):
            try:
                with open(os.path.join(folder, name + ending), "rb") as f:
                    return f.read()
            except FileNotFoundError:
                return b""

        self.method, self.url, self.status, *args = read(".args").decode().split("\0")[:-1]
        self.sent = read(".sent")
        for option, value in zip(args, args[1:]):
            if option in ("-d", "--data-binary") and not value.startswith("@"):
                self.sent = value.encode()
        head = read(".headers").decode("latin-1").lower().split("\r\n\r\n")
        self.type = (re.findall(r"^content-type: ([^;\r\n]*)", head[-2] if len(head) > 1 else "", re.M) + [""])[0]
        self.got = read(".out")
        self.path, _, self.query = self.url.partition("?")

    def check(self):
        template, item, op = find(self.method, urllib.parse.unquote(self.path))
        if op is None:
            if self.status not in ("404", "405"):
                fault("%s %s: %s, though it is no route", self.method, self.url, self.status)
            return self.check_json({"$ref": "#/components/schemas/Error"}, self.got)
        if self.status not in op["responses"]:
            return fault("%s %s: %s is not described", self.method, template, self.status)
        content = resolve(op["responses"][self.status]).get("content", {})
        if self.method != "HEAD":
            self.check_content(content)
        if self.status[0] == "2":
            self.check_query(op, item)
        if "requestBody" in op:
            self.check_request(op["requestBody"]["content"]["application/json"]["schema"])

    def check_content(self, content):
        if not content:
            if self.got:
                fault("%s %s: %s has a body", self.method, self.url, self.status)
        elif self.type not in content:
            fault("%s %s: %s of type '%s'", self.method, self.url, self.status, self.type)
        elif self.type == "text/event-stream":
            for data in re.findall(r"^data: (.*)$", self.got.decode(), re.M):
                if data != "[DONE]":
                    self.check_json(content[self.type]["x-itemSchema"], data)
        elif self.type == "application/json":
            self.check_json(content[self.type]["schema"], self.got)

    def check_json(self, schema, text):
        try:
            value = json.loads(text)
        except ValueError:
            return fault("%s %s: %s with '%.80s'", self.method, self.url, self.status, text)
        for e in errors(GIVEN, closed(schema), value)[:2]:
            fault("%s %s: %s: %s in %.500s", self.method, self.url, self.status, e, text)

    def check_query(self, op, item):
        params = {p["name"]: p["schema"] for p in op.get("parameters", []) + item.get("parameters", [])
                  if p["in"] == "query"}
        for key, value in urllib.parse.parse_qsl(self.query, keep_blank_values=True):
            if key not in params:
                fault("%s %s: the parameter %s is not described", self.method, self.url, key)
                continue
            value = int(value) if params[key]["type"] == "integer" else value
            for e in errors(TAKEN, params[key], value):
                fault("%s %s: %s: %s", self.method, self.url, key, e)

    def check_request(self, schema):
        try:
            body = json.loads(self.sent)
        except ValueError:
            return
        wrong = errors(TAKEN, schema, body)
        if self.status[0] == "2" and wrong:
            fault("%s %s: taken, but %s in %.300s", self.method, self.url, wrong[0], self.sent.decode())
        if self.status == "400" and not wrong and b'"code":"bad_json"' not in self.got:
            e = json.loads(self.got).get("error", {})
            if e.get("param") in (body or {}) and e["code"] in ("out_of_range", "unknown_field", "missing_field"):
                fault("%s %s: refused (%s), but the schema takes %.300s", self.method, self.url, e["message"],
                      self.sent.decode())


def check_exchanges(folder):
    names = sorted(n[:-5] for n in os.listdir(folder) if n.endswith(".args"))
    if not names:
        fault("nothing was recorded")
    for name in names:
        Exchange(folder, name).check()


if sys.argv[1] == "file":
    check_file()
elif sys.argv[1] == "routes":
    check_routes(sys.argv[2:])
else:
    check_exchanges(sys.argv[2])
for line in faults:
    print(line)
sys.exit(1 if faults else 0)
