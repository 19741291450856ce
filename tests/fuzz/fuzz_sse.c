/* Event streams. The first byte says which of two things follows:
 *
 *   even   a stream, read in pieces of the second byte's size and as a whole: the same events
 *   odd    a reader of a stored job's events whose connection breaks after so many bytes, again and
 *          again, and which goes on with the id of the last event it was handed: it gets every
 * event once and in order, whatever the pages and wherever the breaks
 */
#include <ftw.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/sse.h"
#include "storage/storage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

#define EVENT_MAX 65536
#define JOB       "job_01J00000000000000000000000"

static void need(bool true_)
{
    if (!true_)
        abort();
}

/* ---- pieces ---------------------------------------------------------------------------------- */

static int note(void *user, const struct net_sse_event *e)
{
    pd_buf_printf(user, "%s|%s|%.*s;", e->id, e->type, (int)e->data.len, e->data.ptr);
    return 0;
}

static int read_in_pieces(struct pd_str text, size_t piece, struct pd_buf *out)
{
    struct net_sse s;
    int rc = 0;

    net_sse_init(&s, EVENT_MAX, note, out);
    for (size_t at = 0; at < text.len && rc == 0; at += piece)
        rc = net_sse_add(&s, pd_str_sub(text, at, at + piece));
    net_sse_done(&s);
    return rc;
}

static void pieces(struct pd_str text, size_t piece)
{
    struct pd_buf a = PD_BUF_INIT((size_t)1 << 26), b = PD_BUF_INIT((size_t)1 << 26);

    need(read_in_pieces(text, piece ? piece : 1, &a) == read_in_pieces(text, text.len + 1, &b));
    need(pd_str_eq(pd_buf_str(&a), pd_buf_str(&b)));
    pd_buf_done(&a);
    pd_buf_done(&b);
}

/* ---- resuming -------------------------------------------------------------------------------- */

static struct pd_str no_answer(struct pd_str line)
{
    return pd_str_sub(line, 0, 0);
}

static char folder[] = "/tmp/ponder-fuzz-XXXXXX";

static int rm(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void remove_folder(void)
{
    nftw(folder, rm, 8, FTW_DEPTH | FTW_PHYS);
}

/* A store with one job of a few dozen events, made once. */
static struct store *store(void)
{
    static struct store *s;
    struct pd_job_rec job = {.id = JOB,
                             .strategy = "beam",
                             .options = "{}",
                             .model = "tiny",
                             .status = "running",
                             .request = PD_STR("{}"),
                             .budget = "{}",
                             .created_ms = 1000,
                             .answer_node = -1,
                             .correct = -1};
    char path[64];

    if (s)
        return s;
    need(mkdtemp(folder) != NULL);
    atexit(remove_folder);
    snprintf(path, sizeof path, "%s/t.db", folder);
    need(store_open(path, STORE_WRITE, &s, NULL) == 0 && store_job_put(s, &job, NULL) == 0);
    for (uint32_t i = 0; i < 24; i++) {
        struct pd_node_rec n = {.id = i,
                                .status = "open",
                                .text = PD_STR("a line\nand \xc3\xa9 data: id: 3\r\n\r\n"),
                                .finish = "step",
                                .call_id = -1};

        need(store_node_put(s, JOB, &n, NULL) == 0);
    }
    job.status = "done";
    need(store_job_put(s, &job, NULL) == 0 && store_flush(s, NULL) == 0);
    return s;
}

struct reader {
    struct pd_buf got;
    uint64_t last; /* event that was handed on */
};

static int hand_on(void *user, const struct net_sse_event *e)
{
    struct reader *r = user;
    uint64_t seq;

    need(pd_parse_u64(pd_str_of(e->id), &seq) && seq == r->last + 1);
    r->last = seq;
    pd_buf_printf(&r->got, "%s %.*s\n", e->type, (int)e->data.len, e->data.ptr);
    return 0;
}

/* Page after page from behind `since`, as the daemon sends them; stops within the first `limit`
 * bytes. True: it came to the end. */
static bool serve(struct net_sse *to, uint64_t since, size_t page, size_t limit)
{
    struct pd_buf text = PD_BUF_INIT((size_t)1 << 24);
    bool over = false;

    while (!over && text.len < limit) {
        struct store_feed *f;

        need(store_feed_load(store(), JOB, since, page, no_answer, &f, NULL) == 0);
        for (size_t i = 0; i < f->n; i++) {
            const struct store_feed_entry *e = &f->entries[i];

            pd_buf_printf(&text, "id: %" PRIu64 "\nevent: %s\ndata: ", e->seq, e->type);
            pd_buf_adds(&text, e->data);
            pd_buf_addz(&text, "\n\n");
            since = e->seq;
        }
        over = f->ended;
        store_feed_free(f);
    }
    over = over && text.len <= limit;
    need(net_sse_add(to, pd_str_sub(pd_buf_str(&text), 0, limit)) == 0);
    pd_buf_done(&text);
    return over;
}

static void resume(const uint8_t *data, size_t n_bytes)
{
    struct reader whole = {.got = PD_BUF_INIT((size_t)1 << 24)}, broken = whole;
    struct net_sse s;
    bool over = false;

    net_sse_init(&s, (size_t)1 << 20, hand_on, &whole);
    need(serve(&s, 0, 1000, SIZE_MAX));
    net_sse_done(&s);
    net_sse_init(&s, (size_t)1 << 20, hand_on, &broken);
    for (size_t i = 0; i + 2 < n_bytes && !over; i += 3) {
        over = serve(&s, broken.last, 1 + data[i] % 32, (size_t)data[i + 1] * 16 + data[i + 2]);
        net_sse_restart(&s);
    }
    if (!over)
        need(serve(&s, broken.last, 1000, SIZE_MAX));
    net_sse_done(&s);
    need(pd_str_eq(pd_buf_str(&whole.got), pd_buf_str(&broken.got)));
    pd_buf_done(&whole.got);
    pd_buf_done(&broken.got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    if (n_bytes < 2)
        return 0;
    if (data[0] % 2)
        resume(data + 1, n_bytes - 1);
    else
        pieces((struct pd_str){(const char *)data + 2, n_bytes - 2}, data[1]);
    return 0;
}
