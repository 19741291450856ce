# src/app: wiring of engine, storage, strategies and verifiers.
src_app_libapp_a_SOURCES =
