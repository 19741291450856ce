// The official MCP client against a running daemon, or a bridge on standard input and output.
//
//   npm install @modelcontextprotocol/sdk
//   node mcp.mjs http://127.0.0.1:7433/mcp TOKEN
//   node mcp.mjs -- ponder mcp
//
// Prints TAP. Not part of `make check`, which needs no network.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

let n = 0, failed = 0;
function ok(good, name, detail) {
  n++;
  if (!good) failed++;
  console.log(`${good ? "ok" : "not ok"} ${n} - ${name}`);
  if (!good && detail !== undefined) console.log("# " + JSON.stringify(detail).slice(0, 600));
}

const args = process.argv.slice(2);
const transport =
  args[0] === "--"
    ? new StdioClientTransport({ command: args[1], args: args.slice(2), env: process.env, stderr: "inherit" })
    : new StreamableHTTPClientTransport(new URL(args[0]), {
        requestInit: { headers: { Authorization: `Bearer ${args[1]}` } },
      });
const client = new Client({ name: "ponder-test", version: "1" });
await client.connect(transport);
ok(client.getServerVersion().name === "ponder", "initialize");
await client.ping();
ok(true, "ping");

const { tools } = await client.listTools();
const names = tools.map((t) => t.name);
for (const name of ["solve", "submit_job", "job_status", "job_result", "cancel_job", "score_steps", "list_models", "explain_trace"])
  ok(names.includes(name), `there is ${name}`);
ok(tools.find((t) => t.name === "job_status").annotations.readOnlyHint === true, "readers say that they read");

const question = "Mia has 18 beads. She finds 4 more. How many beads does Mia have?";
const call = (name, args, options) => client.callTool({ name, arguments: args }, undefined, options);

let r = await call("list_models", {});
ok(r.structuredContent.models.some((m) => m.name.startsWith(r.structuredContent.default)), "list_models has the default", r);

r = await call("solve", { question, strategy: "best_of_n", options: { samples: 4 }, seed: 7 });
ok(!r.isError && r.structuredContent.status === "done", "solve ends", r);
ok(typeof r.structuredContent.answer === "string", "with an answer", r);
const first = r.structuredContent;

r = await call("submit_job", { question, strategy: "best_of_n", options: { samples: 4 }, seed: 7, idempotency_key: "k" + Date.now() });
const job = r.structuredContent.job;
ok(/^job_/.test(job), "submit_job gives an id", r);
for (;;) {
  r = await call("job_status", { job });
  if (["done", "failed", "cancelled"].includes(r.structuredContent.status)) break;
  await new Promise((f) => setTimeout(f, 50));
}
ok(r.structuredContent.status === "done", "job_status says done", r);
r = await call("job_result", { job });
ok(r.structuredContent.answer === first.answer, "the same seed gives the same answer", r);
ok(r.structuredContent.steps.length > 0 && r.structuredContent.digest, "with its steps and its digest", r);
r = await call("score_steps", { problem: question, steps: ["18 + 4 = 22.", "The answer is 22."] });
ok(r.structuredContent.steps.length === 2 && r.structuredContent.aggregate.min <= 1, "score_steps judges each step", r);
r = await call("explain_trace", { job, max_nodes: 3 });
ok(r.structuredContent.nodes.length === 3 && r.structuredContent.nodes_total === 5, "explain_trace is bounded", r);
r = await call("cancel_job", { job });
ok(r.structuredContent.status === "done", "cancelling what is done changes nothing", r);

r = await call("job_result", { job: "job_00000000000000000000000000" });
ok(r.isError === true, "a job that is not there is a failure of the work", r);
try {
  await call("solve", { question, speed: 9 });
  ok(false, "an argument that is not known is refused");
} catch (e) {
  ok(e.code === -32602, "an argument that is not known is refused", e.message);
}

const seen = [];
const long = { question, strategy: "ab_mcts", options: { samples: 4096 }, budget: { tokens: 10000000 } };

try {
  const stop = new AbortController();
  await call("solve", long, {
    signal: stop.signal,
    onprogress: (p) => { seen.push(p); if (seen.length === 2) stop.abort("enough"); },
    timeout: 120000,
  });
  ok(false, "a long solve can be cancelled");
} catch (e) {
  ok(seen.length === 2, "progress comes, and cancelling ends the call", seen);
}
if (args[0] !== "--") {
  // the notification is under way: the job itself must end
  let status = "";
  for (let i = 0; i < 100 && status !== "cancelled"; i++) {
    await new Promise((f) => setTimeout(f, 50));
    const answer = await fetch(new URL("/v1/jobs?limit=1", args[0]), { headers: { Authorization: `Bearer ${args[1]}` } });
    status = (await answer.json()).data[0].status;
  }
  ok(status === "cancelled", "and the work", status);
}
ok(seen.length > 0 && seen[0].progress > 0 && seen[0].total === 10000000, "progress counts tokens of the budget", seen[0]);
await client.close();
console.log(`1..${n}`);
process.exit(failed ? 1 : 0);
