# storage: SQLite schema, writer, readers.
storage_libstorage_a_SOURCES =
