/* Calls of tools in what a model writes: <tool_call>{…}</tool_call> (Hermes, Qwen),
 * [TOOL_CALLS][…] (Mistral), and a text that is nothing but the JSON of a call (Llama 3), if that
 * names a tool of the request. Any thread. */
#ifndef PD_DAEMON_TOOL_CALLS_H
#define PD_DAEMON_TOOL_CALLS_H

#include "base/arena.h"

struct pd_json;
struct pd_buf;

struct tool_call {
    const char *name;
    const char *arguments; /* JSON */
};

/* How many calls are in the text, 0 where what looks like one is none; -1: out of memory. All in
 * the arena but the content: what stands before them. tools: the request's, JSON. */
int tool_calls_parse(struct pd_str text, const char *tools, struct pd_arena *a,
                     struct tool_call **out, struct pd_str *out_content);
/* How much of a text that goes on is certainly no call, nor the beginning of one. */
size_t tool_calls_free(struct pd_str text);
/* A JSON Schema of a call of one of the tools (a request's), or of the one that is named (NULL:
 * any), in the form that any model can be held to and tool_calls_parse reads. How many there are.
 */
size_t tool_calls_schema(const struct pd_json *tools, const char *name, struct pd_buf *out);

#endif
