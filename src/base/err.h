/* Errors: one code a caller can act on, one sentence a user can act on.
 *
 * A function that can fail returns 0 (or a count) or a negative enum pd_code, and takes a
 * `struct pd_err *err` last (may be NULL). The place that knows the cause calls pd_fail(); callers
 * may add where it happened with pd_err_context(). Any thread; no ownership. */
#ifndef PD_BASE_ERR_H
#define PD_BASE_ERR_H

enum pd_code {
    PD_OK = 0,
    PD_ENOMEM = -1,    /* out of memory, or a memory ceiling */
    PD_EINVAL = -2,    /* the caller asked for something that makes no sense */
    PD_EFORMAT = -3,   /* foreign bytes are not what they claim to be */
    PD_EIO = -4,       /* the operating system failed us (disk full, read error) */
    PD_ELIMIT = -5,    /* a ceiling was reached */
    PD_ENOENT = -6,    /* it is not there */
    PD_EREMOTE = -7,   /* a remote engine failed */
    PD_ETIMEOUT = -8,  /* a deadline passed */
    PD_ECANCEL = -9,   /* somebody asked us to stop */
    PD_EBUDGET = -10,  /* the job's budget is spent */
    PD_EBUSY = -11,    /* in use by another process */
    PD_EPERM = -12,    /* not allowed */
    PD_EDIFFER = -13,  /* a verification found a difference */
    PD_ECOMPLEX = -14, /* what was asked for is too much to work out: ask for something simpler */
};

struct pd_err {
    enum pd_code code;
    char text[512]; /* a complete sentence without a trailing period */
};

/* Fills err (when not NULL) and returns code. */
int pd_fail(struct pd_err *err, enum pd_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4), cold));

/* As pd_fail, with the code and the reason taken from errno_value: "<what>: No space left…".
 * ENOENT→PD_ENOENT, EACCES/EPERM/EROFS→PD_EPERM, ENOMEM→PD_ENOMEM, else PD_EIO. */
int pd_fail_errno(struct pd_err *err, int errno_value, const char *fmt, ...)
    __attribute__((format(printf, 3, 4), cold));

/* Puts "<context>: " before the text. */
void pd_err_context(struct pd_err *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3), cold));

#endif
