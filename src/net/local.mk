# src/net: HTTP: the server on the loop, and the client on a thread of its own.
src_net_libnet_a_SOURCES = \
	src/net/client.c \
	src/net/client.h \
	src/net/http.c \
	src/net/http.h \
	src/net/sse.c \
	src/net/sse.h
