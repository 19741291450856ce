/* The daemon: `ponder serve`. The only door of src/daemon. */
#ifndef PD_DAEMON_DAEMON_H
#define PD_DAEMON_DAEMON_H

#include "app/app.h"

struct daemon_config {
    /* unix (the default place), unix:///PATH, http://127.0.0.1:PORT (also localhost, [::1]; port 0:
     * any). None: unix, or the sockets that systemd hands over. */
    const char *const *listen;
    size_t n_listen;
    struct app_config app;
    unsigned max_jobs;  /* that run at once */
    unsigned max_queue; /* that wait; more are told to come back */
    uint64_t max_body;
    double drain_s; /* at the end: for the requests that are being answered */
    int verbose;    /* 0: what matters; 1: each request; 2: health checks too */
    bool log_json, quiet;
};

/* Serves until SIGTERM or SIGINT; called before any other thread starts. PD_EBUSY: another daemon
 * serves this socket, or something listens on this port. */
int daemon_run(const struct daemon_config *c, struct pd_err *err);

#endif
