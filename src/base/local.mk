# src/base: the ground floor. One line per file, headers too.
src_base_libbase_a_SOURCES =
