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

/* A file that appears whole or not at all: it is written beside its place as .NAME.part, synced and
 * renamed. Writers of one path exclude each other (PD_EBUSY); what a crash leaves behind, the next
 * writer takes over. */
struct pd_draft {
    int fd; /* to write to */
    char *path, *part;
};
int pd_draft_open(struct pd_draft *d, const char *path, struct pd_err *err);
int pd_draft_write(struct pd_draft *d, struct pd_str bytes, struct pd_err *err);
/* All of a file, without copying where the file system can share it. */
int pd_draft_copy(struct pd_draft *d, const char *from, struct pd_err *err);
int pd_draft_commit(struct pd_draft *d, struct pd_err *err); /* replaces what is there */
void pd_draft_done(struct pd_draft *d); /* drops what was not committed; after open only */
/* All of it in one. */
int pd_write_file(const char *path, struct pd_str bytes, struct pd_err *err);

#endif
