/* The verbs that make nodes of given text: nothing is sampled, and nothing is generated. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/hash.h"
#include "core/search_int.h"

/* What is stored is served: 1. 0: it is still to be made. */
static int stored(struct search *s, struct node *n, struct pd_err *err)
{
    const struct pd_node_rec *r = search_stored_node(s, n->id);
    int rc;

    if (!r)
        return s->job->mode == PD_JOB_RECORDED
                   ? pd_fail(err, PD_ENOENT, "node %" PRIu32 " is not in the stored trace", n->id)
                   : 0;
    rc = search_node_serve(s, n, r, err);
    return rc < 0 ? rc : 1;
}

static int made(struct search *s, struct node *n, const char *finish, struct pd_str text,
                const int32_t *ids, size_t n_ids, struct pd_err *err)
{
    int rc;

    search_node_tokens(s, n, ids, NULL, (uint32_t)n_ids);
    n->finish = finish;
    n->text = (struct pd_str){pd_arena_dup(s->arena, text), text.len};
    rc = search_node_settle(s, n, err);
    return rc < 0 ? rc : search_node_record(s, n, err);
}

int search_node_give(struct search *s, struct node *parent, struct pd_str text, bool aside,
                     struct node **out, struct pd_err *err)
{
    struct node *n = search_node_new(s, parent);
    int32_t *ids = NULL;
    size_t count = 0;
    int rc;

    n->aside = aside;
    if (aside)
        parent->n_children--;
    else
        search_node_adopt(parent);
    *out = n;
    rc = stored(s, n, err);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    rc = search_ops(s)->tokenize(search_gen(s), text, &ids, &count, err);
    if (rc == 0)
        rc = made(s, n, "forced", text, ids, count, err);
    free(ids);
    return rc;
}

int search_force(struct search *s, struct node *parent, struct pd_str text, struct node **out,
                 struct pd_err *err)
{
    return search_node_give(s, parent, text, false, out, err);
}

int search_block(struct search *s, struct node *parent, struct pd_str text, bool aside,
                 struct node **out, struct pd_err *err)
{
    int rc;

    if (s->job->form)
        return pd_fail(
            err, PD_EINVAL,
            "lines that are written together cannot have a form (a schema or a grammar): "
            "take another strategy");
    if (s->job->mode != PD_JOB_RECORDED && !s->job->gen->ops->ctx_view)
        return pd_fail(err, PD_EINVAL,
                       "lines that see each other while they are written need the built-in engine; "
                       "engine '%s' (dialect %s) cannot do that",
                       s->job->gen->engine, s->job->gen->dialect);
    rc = search_node_give(s, parent, text, aside, out, err);
    if (rc == 0) {
        (*out)->block = *out;
        (*out)->apart = (*out)->apart || aside;
    }
    return rc;
}

int search_node_give_block(struct search *s, struct node *parent, const struct node *end,
                           struct node **out, struct pd_err *err)
{
    struct node *n = search_node_new(s, parent);
    const struct node **part = search_alloc(s, (end->depth + 1) * sizeof(struct node *));
    struct pd_buf text = PD_BUF_INIT(1 << 24);
    size_t n_parts = 0, count = 0;
    int32_t *ids;
    int rc;

    for (part[n_parts++] = end; part[n_parts - 1] != end->block; n_parts++)
        part[n_parts] = part[n_parts - 1]->parent;
    for (size_t i = 0; i < n_parts; i++)
        count += part[i]->n_tokens;
    ids = search_alloc(s, count * sizeof *ids);
    count = 0;
    for (size_t i = n_parts; i-- > 0;) {
        if (part[i]->n_tokens)
            memcpy(ids + count, part[i]->tokens, part[i]->n_tokens * sizeof *ids);
        count += part[i]->n_tokens;
        pd_buf_adds(&text, part[i]->text);
        n->joined_tokens += part[i]->logprobs ? part[i]->n_tokens : 0;
    }
    count -= strcmp(end->finish, "eos") == 0;
    n->block = NULL;
    search_node_adopt(parent);
    *out = n;
    rc = stored(s, n, err);
    if (rc == 0)
        rc = pd_buf_rc(&text) < 0 ? pd_fail(err, PD_ENOMEM, "out of memory for a node")
                                  : made(s, n, "forced", pd_buf_str(&text), ids, count, err);
    pd_buf_done(&text);
    return rc < 0 ? rc : 0;
}

/* How many of n's tokens lie before byte `end` of its text, and the byte where they end. */
static int tokens_before(struct search *s, const struct node *n, size_t end, uint32_t *out_n,
                         size_t *out_byte, struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(1 << 24);
    int rc = 0;

    *out_n = 0;
    *out_byte = 0;
    for (uint32_t i = 0; i < n->n_tokens && rc == 0; i++) {
        rc = search_ops(s)->detokenize(search_gen(s), n->tokens + i, 1, &text, err);
        if (rc < 0 || text.len > end)
            break;
        *out_n = i + 1;
        *out_byte = text.len;
    }
    pd_buf_done(&text);
    return rc;
}

/* The reworded node goes on from the context of the one whose place it takes: its drawn tokens but
 * the last n_drop, then ids. */
static int take_ctx(struct search *s, const struct node *from, uint32_t n_drop, struct node *n,
                    const int32_t *ids, size_t n_ids, struct pd_err *err)
{
    const struct pd_generator_ops *ops = search_ops(s);
    struct pd_gctx *was = from->ctx[s->role], **ctx = &n->ctx[s->role];
    int rc;

    if (!was)
        return 0;
    rc = ops->ctx_fork(search_gen(s), was, ctx, err);
    if (rc == 0)
        rc = ops->ctx_rollback(search_gen(s), *ctx, ops->ctx_n_tokens(search_gen(s), *ctx) - n_drop,
                               err);
    return rc < 0 ? rc : ops->ctx_append(search_gen(s), *ctx, ids, n_ids, err);
}

int search_reword(struct search *s, struct node *node, struct pd_str ending, struct pd_str text,
                  struct node **out, struct pd_err *err)
{
    struct node *n;
    struct pd_buf whole = PD_BUF_INIT(1 << 24);
    size_t count = 0, byte = 0, keep = node->text.len - ending.len;
    uint32_t n_keep = 0;
    int32_t *ids = NULL;
    int rc;

    if (!pd_str_ends(node->text, ending))
        return pd_fail(err, PD_EINVAL, "node %" PRIu32 " does not end in '%.*s'", node->id,
                       (int)ending.len, ending.ptr);
    n = search_node_new(s, node->parent);
    *out = n;
    pd_buf_adds(&whole, pd_str_sub(node->text, 0, keep));
    pd_buf_adds(&whole, text);
    rc = stored(s, n, err);
    if (rc == 0)
        rc = tokens_before(s, node, keep, &n_keep, &byte, err);
    /* the very tokens that were drawn; one that reaches into the ending is spelled anew */
    if (rc == 0 && n_keep && (ids = malloc(n_keep * sizeof *ids)))
        memcpy(ids, node->tokens, n_keep * sizeof *ids);
    if (rc == 0 && (pd_buf_rc(&whole) < 0 || (n_keep && !ids)))
        rc = pd_fail(err, PD_ENOMEM, "out of memory for a node");
    if (rc == 0) {
        count = n_keep;
        rc = search_ops(s)->tokenize(search_gen(s), pd_str_sub(pd_buf_str(&whole), byte, whole.len),
                                     &ids, &count, err);
        if (rc == 0)
            rc = take_ctx(s, node, node->n_tokens - n_keep, n, ids + n_keep, count - n_keep, err);
        if (rc == 0)
            rc = made(s, n, "forced", pd_buf_str(&whole), ids, count, err);
    }
    n->path_tokens = node->path_tokens; /* they were drawn, all of them */
    search_prune(s, node, "reworded");
    free(ids);
    pd_buf_done(&whole);
    return rc < 0 ? rc : 0;
}

int search_chat(struct search *s, struct pd_str question, int32_t **io_ids, size_t *io_n,
                struct pd_err *err)
{
    const struct pd_job *job = s->job;
    struct pd_message room[2], *messages;
    struct pd_chat chat;
    size_t n = 0;

    if (!job->chat) {
        chat = pd_chat_ask(job->system, question.ptr ? question : pd_str_of(job->question), room);
    } else {
        chat = *job->chat;
        if (question.ptr && !chat.n_messages) { /* of a prompt without messages */
            chat = (struct pd_chat){.text = question};
        } else if (question.ptr) {
            for (size_t i = 0; i < chat.n_messages; i++)
                n = strcmp(chat.messages[i].role, "user") == 0 ? i : n;
            messages = search_alloc(s, (n + 1) * sizeof *messages);
            memcpy(messages, chat.messages, (n + 1) * sizeof *messages);
            messages[n] = (struct pd_message){.role = "user", .content = question};
            chat.messages = messages;
            chat.n_messages = n + 1;
            chat.continue_last = false;
        }
    }
    return search_ops(s)->chat(search_gen(s), &chat, io_ids, io_n, err);
}

int search_prompt(struct search *s, struct pd_str question, bool apart, struct node **out,
                  struct pd_err *err)
{
    struct node *n = search_node_new(s, search_root(s));
    int32_t *ids = NULL;
    size_t count = 0;
    int rc;

    /* beside the tree: lane i of the job's question is lane i, whatever else is asked */
    n->parent->n_children--;
    n->aside = n->prompt = true;
    n->apart = apart;
    n->depth = 0;
    n->key = search_subkey(search_subkey(n->parent->key, UINT64_MAX, 2),
                           pd_hash64(question.ptr, question.len), n->id);
    *out = n;
    rc = stored(s, n, err);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    rc = search_chat(s, question, &ids, &count, err);
    if (rc == 0 && count + 1 > search_ops(s)->n_ctx(search_gen(s))) {
        n->status = NODE_FAILED;
        n->prune_reason = "too_long";
        count = 0;
    }
    if (rc == 0)
        rc = made(s, n, "prompt", question, ids, count, err);
    free(ids);
    return rc;
}
