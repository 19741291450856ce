/* The daemon: `ponder serve`. The only door of src/daemon. */
#ifndef PD_DAEMON_DAEMON_H
#define PD_DAEMON_DAEMON_H

#include "app/settings.h"

struct daemon_config {
    struct settings *settings; /* listen: none is unix, or the sockets that systemd hands over */
    /* At SIGHUP: the settings as they are now, a reference for the daemon. */
    int (*reload)(void *user, struct settings **out, struct pd_err *err);
    void *user;
};

/* Serves until SIGTERM or SIGINT; called before any other thread starts. PD_EBUSY: another daemon
 * serves this socket, or something listens on this port. */
int daemon_run(const struct daemon_config *c, struct pd_err *err);

#endif
