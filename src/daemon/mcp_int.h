/* The Model Context Protocol: mcp.c has the protocol, mcp_tools.c what the tools do. Loop thread.
 */
#ifndef PD_DAEMON_MCP_INT_H
#define PD_DAEMON_MCP_INT_H

#include "daemon/daemon_int.h"

/* One tools/call. Lives until its tool has called mcp_done, also when its client has left. */
struct mcp_call {
    struct daemon *d;
    const struct pd_json *args; /* the tool's arguments; NULL: none */
    char job[PD_JOB_ID_MAX];    /* that it waits for; "" : none. Cancelling the call cancels it */
    bool cancelled;             /* by its client: nobody wants an answer */
    void (*cancel)(struct mcp_call *call); /* what that means beside it; NULL: nothing */
    void *state;                           /* the tool's */
    struct mcp_wire *wire;                 /* mcp.c's */
};

struct mcp_tool {
    const char *name, *title, *description;
    const char *input, *output; /* JSON Schema */
    const char *annotations;    /* JSON */
    void (*run)(struct mcp_call *call);
};
extern const struct mcp_tool mcp_tools[]; /* ends with a NULL name */

/* route_score.c: the tool of this name, with arguments that are known and there. */
void mcp_score_steps(struct mcp_call *call);

/* Ends the call. structured: a JSON object, shown as text too when text is NULL. */
void mcp_done(struct mcp_call *call, struct pd_buf *structured, const char *text);
/* Ends it with a failure of the work, which the model is to read. */
void mcp_failed(struct mcp_call *call, const char *message);
/* Ends it with -32602: the arguments make no sense. */
void mcp_bad_arguments(struct mcp_call *call, const char *message);
/* A progress notification, when the client asked for them. total 0: not known. */
void mcp_progress(struct mcp_call *call, uint64_t progress, uint64_t total, const char *message);

#endif
