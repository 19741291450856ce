/* What operators ask: is it there, is it ready, what is it, how much did it do. */
#include "daemon/daemon_int.h"

#include "base/clock.h"

#define METRICS_MAX ((size_t)1 << 20)

static void health(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    (void)d, (void)args;
    http_reply(r, 200, "application/json", PD_STR("{\"status\":\"ok\"}\n"));
}

static void ready(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    (void)args;
    if (!d->draining) {
        http_reply(r, 200, "application/json", PD_STR("{\"status\":\"ok\"}\n"));
        return;
    }
    api_draining(r);
}

static void version(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    struct pd_buf b = PD_BUF_INIT(1024);
    char since[PD_RFC3339_SIZE];
    struct pd_jw w;

    (void)args;
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_put_text(&w, "version", PONDER_VERSION);
    pd_jw_key(&w, "started");
    pd_clock_rfc3339(d->started_ms, since);
    pd_jw_strz(&w, since);
    pd_jw_end_object(&w);
    api_json(r, 200, &b);
}

static void metrics(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    struct pd_buf b = PD_BUF_INIT(METRICS_MAX);

    (void)args;
    metrics_write(d, &b);
    if (pd_buf_rc(&b) < 0)
        api_no_memory(r);
    else
        http_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", pd_buf_str(&b));
    pd_buf_done(&b);
}

static void openapi(struct daemon *d, struct http_request *r, const struct route_args *args)
{
    static const char text[] =
#include "daemon/openapi.inc"
        ;

    (void)d, (void)args;
    http_reply(r, 200, "application/json", (struct pd_str){text, sizeof text - 1});
}

const struct route routes_ops[] = {
    {HTTP_GET, "/health", health, ROUTE_OPEN},
    {HTTP_GET, "/v1/health", health, ROUTE_OPEN},
    {HTTP_GET, "/ready", ready, ROUTE_OPEN},
    {HTTP_GET, "/version", version, 0},
    {HTTP_GET, "/metrics", metrics, 0},
    {HTTP_GET, "/openapi.json", openapi, 0},
    {HTTP_GET, NULL, NULL, 0},
};
