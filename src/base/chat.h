/* A conversation, as a client sends it and a chat template prints it, and what a client says of
 * single tokens. Plain data, shared by the engine and the search core so that neither needs to know
 * the other; all of it is borrowed. */
#ifndef PD_BASE_CHAT_H
#define PD_BASE_CHAT_H

#include "base/str.h"

struct pd_message {
    const char *role;         /* system user assistant tool */
    struct pd_str content;    /* ptr NULL: none, as of an assistant that only calls tools */
    const char *reasoning;    /* assistant: what it thought before that; NULL: not said */
    const char *tool_calls;   /* assistant: JSON [{"id","type","function":{"name","arguments"}}] */
    const char *tool_call_id; /* tool: the call that it answers */
    const char *name;         /* of who speaks, or of the tool */
};

struct pd_chat {
    const struct pd_message *messages;
    size_t n_messages;
    const char *tools;     /* JSON [{"type":"function","function":{…}}]; NULL: none */
    const char *variables; /* JSON object: more variables of the template; NULL: none */
    bool continue_last;    /* the last message is an assistant's whose text is to go on */
    bool closed;           /* it ends with its last message: nothing asks for an answer */
    /* A prompt as it is, in place of all that: text in which control tokens are found, or tokens.
     */
    struct pd_str text; /* ptr NULL: none */
    const int32_t *ids;
    size_t n_ids; /* 0: none */
};

struct pd_bias { /* what is added to a token's logit before anything is drawn */
    int32_t token;
    float bias;
};

#define PD_CHAT(m, n) (&(struct pd_chat){.messages = (m), .n_messages = (n)})

/* A question, behind a system message unless that is NULL or empty; room is what it stands in. */
static inline struct pd_chat pd_chat_ask(const char *system, struct pd_str question,
                                         struct pd_message room[2])
{
    size_t n = 0;

    if (system && system[0])
        room[n++] = (struct pd_message){.role = "system", .content = pd_str_of(system)};
    room[n++] = (struct pd_message){.role = "user", .content = question};
    return (struct pd_chat){.messages = room, .n_messages = n};
}

#endif
