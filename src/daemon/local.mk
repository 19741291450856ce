# src/daemon: `ponder serve`.
src_daemon_libdaemon_a_SOURCES = \
	src/daemon/api.c \
	src/daemon/daemon.c \
	src/daemon/daemon.h \
	src/daemon/daemon_int.h \
	src/daemon/follow.c \
	src/daemon/follow.h \
	src/daemon/listen.c \
	src/daemon/log.c \
	src/daemon/mcp.c \
	src/daemon/mcp_int.h \
	src/daemon/mcp_tools.c \
	src/daemon/metrics.c \
	src/daemon/openai.c \
	src/daemon/openai.h \
	src/daemon/request.c \
	src/daemon/request.h \
	src/daemon/result.c \
	src/daemon/route_engine.c \
	src/daemon/route_jobs.c \
	src/daemon/route_openai.c \
	src/daemon/route_ops.c \
	src/daemon/route_score.c \
	src/daemon/route_tokens.c \
	src/daemon/tokenizers.c \
	src/daemon/tool_calls.c \
	src/daemon/tool_calls.h

# docs/openapi.json as a C string, for GET /openapi.json.
daemon/openapi.inc: $(srcdir)/docs/openapi.json
	$(C_STRING) $(srcdir)/docs/openapi.json >$@.tmp && mv $@.tmp $@
src/daemon/route_ops.$(OBJEXT): daemon/openapi.inc
CLEANFILES += daemon/openapi.inc
