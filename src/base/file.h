/* Files and paths. */
#ifndef PD_BASE_FILE_H
#define PD_BASE_FILE_H

#include "base/buf.h"
#include "base/err.h"

int pd_read_file(const char *path, struct pd_buf *out,
                 struct pd_err *err);                               /* "-" is standard input */
int pd_mkdirs(const char *path, unsigned mode, struct pd_err *err); /* as mkdir -p */
bool pd_file_exists(const char *path);
char *pd_path_join(const char *dir, const char *name); /* malloc'ed, NULL: out of memory */

#endif
