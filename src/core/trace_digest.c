/* The digest of a trace: see job.h. Rows are taken in id order, so the order in which lanes
 * happened to end does not matter. */
#include "base/hash.h"
#include "core/job.h"

static void add_double(struct pd_sha256 *h, double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof bits);
    pd_sha256_add_u64(h, bits);
}

void pd_trace_digest(const struct pd_trace *t, char hex[65])
{
    struct pd_sha256 *h = pd_sha256_new();
    uint8_t sum[PD_SHA256_BYTES] = {0};
    size_t k = 0; /* the next score: they are in the order of their nodes */

    hex[0] = 0;
    if (!h)
        return;
    pd_sha256_add_str(h, PD_STR("ponder trace 1"));
    pd_sha256_add_str(h, pd_str_of(t->job.strategy));
    pd_sha256_add_str(h, pd_str_of(t->job.options));
    pd_sha256_add_u64(h, t->job.seed);
    for (size_t i = 0; i < t->n_nodes; i++) {
        const struct pd_node_rec *n = &t->nodes[i];

        pd_sha256_add_u64(h, n->id);
        pd_sha256_add_u64(h, n->parent);
        pd_sha256_add_u64(h, n->seed);
        pd_sha256_add_str(h, pd_str_of(n->status));
        pd_sha256_add_str(h, pd_str_of(n->finish));
        pd_sha256_add_str(h, pd_str_of(n->prune_reason));
        pd_sha256_add_u64(h, n->n_tokens);
        pd_sha256_add(h, n->tokens, n->n_tokens * sizeof *n->tokens);
        pd_sha256_add_u64(h, n->logprobs && n->n_tokens);
        if (n->logprobs)
            pd_sha256_add(h, n->logprobs, n->n_tokens * sizeof *n->logprobs);
        if (n->confidences) /* a trace without them is digested as before there were any */
            pd_sha256_add(h, n->confidences, n->n_tokens * sizeof *n->confidences);
        for (; k < t->n_scores && t->scores[k].node_id <= n->id; k++) {
            const struct pd_score_rec *sc = &t->scores[k];

            pd_sha256_add_str(h, pd_str_of(sc->kind));
            add_double(h, sc->value);
            pd_sha256_add_u64(h, sc->n_steps);
            for (uint32_t j = 0; j < sc->n_steps; j++)
                add_double(h, sc->steps[j]);
        }
    }
    pd_sha256_add_u64(h, (uint64_t)t->job.answer_node);
    pd_sha256_add_str(h, pd_str_of(t->job.answer));
    pd_sha256_add_str(h, pd_str_of(t->job.stopped_by));
    pd_sha256_end(h, sum);
    pd_sha256_free(h);
    pd_hex(sum, sizeof sum, hex);
}
