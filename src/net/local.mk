# src/net: HTTP on the loop.
src_net_libnet_a_SOURCES = \
	src/net/http.c \
	src/net/http.h \
	src/net/sse.c \
	src/net/sse.h
