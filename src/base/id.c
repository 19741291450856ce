#include "base/id.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"

int pd_id_new(const char *prefix, char out[PD_ID_MAX], struct pd_err *err)
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    uint64_t ms = (uint64_t)pd_clock_unix_ms();
    uint8_t bits[16];
    char *p = out + strlen(prefix);

    if (getrandom(bits, sizeof bits, 0) != (ssize_t)sizeof bits)
        return pd_fail_errno(err, errno, "cannot draw an id");
    memcpy(out, prefix, strlen(prefix));
    for (int i = 9; i >= 0; i--)
        *p++ = digits[(ms >> (5 * i)) & 31];
    for (int i = 0; i < 16; i++)
        *p++ = digits[bits[i] & 31];
    *p = '\0';
    return 0;
}
