# storage: SQLite schema, writer, readers.
storage_libstorage_a_SOURCES = \
	storage/backup.c \
	storage/db.c \
	storage/feed.c \
	storage/lock.c \
	storage/reader.c \
	storage/run.c \
	storage/schema.c \
	storage/storage.c \
	storage/storage.h \
	storage/store_int.h \
	storage/submission.c \
	storage/verify.c \
	storage/writer.c
