// What the openai npm client sees of `ponder serve`. openai.mjs URL TOKEN
import OpenAI from "openai";
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const [url, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL: url + "/v1", apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Ben has 2 pens. He buys 3 more. How many pens does Ben have?" }];
const chat = { model: "tiny-base", seed: 1, messages };
const version = JSON.parse(readFileSync("node_modules/openai/package.json")).version;

const points = {
    async "models.list, models.retrieve"() {
        const names = [];
        for await (const m of client.models.list()) names.push(m.id);
        assert(names.includes("tiny-base-Q8_0"));
        assert.equal((await client.models.retrieve("tiny-base@beam")).id, "tiny-base@beam");
        return names.join(" ");
    },
    async "chat.completions.create"() {
        const r = await client.chat.completions.create(chat);
        assert.equal(r.choices[0].finish_reason, "stop");
        assert.equal(r.usage.total_tokens, r.usage.prompt_tokens + r.usage.completion_tokens);
        return r.choices[0].message.content;
    },
    async "chat.completions.create, a search"() {
        const r = await client.chat.completions.create({ ...chat, model: "tiny-base@best_of_n", n: 2 });
        assert(r.choices.length >= 1 && r.ponder.strategy === "best_of_n");
        return r.choices.map((c) => `${c.message.content} (${c.ponder.score.toFixed(3)})`).join(", ");
    },
    async "stream: true"() {
        const whole = await client.chat.completions.create(chat);
        let text = "", thought = "", finish, usage, n = 0;
        const stream = await client.chat.completions.create({ ...chat, stream: true, stream_options: { include_usage: true } });
        for await (const c of stream) {
            n++;
            text += c.choices[0]?.delta?.content ?? "";
            thought += c.choices[0]?.delta?.reasoning_content ?? "";
            finish = c.choices[0]?.finish_reason ?? finish;
            usage = c.usage ?? usage;
        }
        assert.equal(text, whole.choices[0].message.content);
        assert.equal(thought, whole.choices[0].message.reasoning_content);
        assert.equal(finish, "stop");
        assert.deepEqual(usage, whole.usage);
        return `${n} chunks`;
    },
    async "chat.completions.stream"() {
        const runner = client.chat.completions.stream(chat);
        let deltas = "";
        runner.on("content", (d) => (deltas += d));
        const end = await runner.finalChatCompletion();
        assert.equal(deltas, end.choices[0].message.content);
        return end.choices[0].finish_reason;
    },
    async "tools: a template that has none is a BadRequestError"() {
        const tools = [{ type: "function", function: { name: "add", parameters: { type: "object", properties: {} } } }];
        const e = await client.chat.completions.create({ ...chat, tools }).catch((e) => e);
        assert(e instanceof OpenAI.BadRequestError);
        const r = await client.chat.completions.create({ ...chat, tools, tool_choice: "none" });
        assert.equal(r.choices[0].finish_reason, "stop");
        return e.message;
    },
    async "response_format: json_schema"() {
        const schema = { type: "object", properties: { n: { type: "integer", minimum: 0, maximum: 99 } }, required: ["n"], additionalProperties: false };
        const response_format = { type: "json_schema", json_schema: { name: "number", strict: true, schema } };
        const r = await client.chat.completions.create({ ...chat, response_format });
        const { n, ...more } = JSON.parse(r.choices[0].message.content);
        assert(Number.isInteger(n) && n >= 0 && n <= 99);
        assert.deepEqual(more, {});
        const any = await client.chat.completions.create({ ...chat, response_format: { type: "json_object" } });
        assert.equal(typeof JSON.parse(any.choices[0].message.content), "object");
        return `${r.choices[0].message.content} ${any.choices[0].message.content}`;
    },
    async "logprobs"() {
        const r = await client.chat.completions.create({ ...chat, logprobs: true, top_logprobs: 2 });
        const t = r.choices[0].logprobs.content;
        assert(t.every((x) => x.logprob <= 0 && x.top_logprobs.length === 2));
        return `${t.length} tokens, the first ${JSON.stringify(t[0].token)} at ${t[0].logprob.toFixed(4)}`;
    },
    async "stop, max_completion_tokens, logit_bias, penalties"() {
        const a = await client.chat.completions.create({ ...chat, max_completion_tokens: 4, presence_penalty: 1, frequency_penalty: 0.5, logit_bias: { 65: -100 } });
        assert.equal(a.choices[0].finish_reason, "length");
        const b = await client.chat.completions.create({ ...chat, stop: ["boxed"] });
        assert(!b.choices[0].message.content.includes("boxed"));
        return JSON.stringify(b.choices[0].message.content);
    },
    async "completions.create"() {
        const r = await client.completions.create({ model: "tiny-base", prompt: ["Ben has", "Sam has"], seed: 1 });
        assert.deepEqual(r.choices.map((c) => c.index).sort(), [0, 1]);
        let text = "";
        for await (const c of await client.completions.create({ model: "tiny-base", prompt: [72, 105], seed: 1, stream: true }))
            text += c.choices[0]?.text ?? "";
        assert(text.length > 0);
        return JSON.stringify(text);
    },
    async "abort"() {
        const long = { ...chat, ponder: { strategy: "self_consistency", options: { samples: 256, temperature: 2 } } };
        const stop = new AbortController();
        const e = await new Promise((done) => {
            client.chat.completions.create(long, { signal: stop.signal }).catch(done);
            setTimeout(() => stop.abort(), 300);
        });
        assert(e instanceof OpenAI.APIUserAbortError);
        const stream = await client.chat.completions.create({ ...long, stream: true });
        for await (const _ of stream) break; // leaves
        for (let i = 0; ; i++) {
            const jobs = await client.get("/jobs?limit=2");
            if (jobs.data.every((j) => j.status === "cancelled")) break;
            assert(i < 100, JSON.stringify(jobs.data.map((j) => j.status)));
            await new Promise((done) => setTimeout(done, 50));
        }
        return "both jobs are cancelled";
    },
    async "error classes"() {
        const bad = async (fields, c = client) => c.chat.completions.create({ ...chat, ...fields }).catch((e) => e);
        const seen = [
            [await bad({ temperature: 3 }), OpenAI.BadRequestError, 400, "out_of_range", "temperature"],
            [await bad({ response_format: { type: "yaml" } }), OpenAI.BadRequestError, 400, "unsupported_value", "response_format"],
            [await bad({ model: "nope" }), OpenAI.NotFoundError, 404, "model_not_found", null],
            [await bad({}, client.withOptions({ apiKey: "wrong" })), OpenAI.AuthenticationError, 401, "bad_token", null],
        ];
        for (const [e, type, status, code, param] of seen) {
            assert(e instanceof type, String(e));
            assert.deepEqual([e.status, e.code, e.param], [status, code, param]);
            assert.match(e.requestID, /^req_/);
        }
        return seen.map(([e]) => e.constructor.name).join(" ");
    },
};

let failed = 0;
console.log(`openai ${version}, node ${process.version}`);
for (const [name, point] of Object.entries(points)) {
    try {
        console.log(`ok - ${name}: ${await point()}`);
    } catch (e) {
        failed++;
        console.log(`not ok - ${name}: ${e.stack}`);
    }
}
process.exit(failed ? 1 : 0);
