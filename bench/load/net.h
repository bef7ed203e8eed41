/* Sockets that never block, and the clock. */
#ifndef NET_H
#define NET_H

#include <netinet/in.h>
#include <stdint.h>

#define NANOSECONDS 1000000000LL

/* CLOCK_MONOTONIC in nanoseconds: the same for all processes of a machine. */
int64_t now_ns(void);
/* Parse an IPv4 address in numbers and a port; ends the process on anything else. */
struct sockaddr_in net_address(const char *host, int port);
/* Listen on any free port of `host`; the port is stored in `address`. */
int net_listen(struct sockaddr_in *address);
/* Take a waiting connection; -1 when there is none. */
int net_accept(int listener);
/* Begin to connect from 127.0.0.`source` (0: any address); -1 when that fails at once. */
int net_connect(const struct sockaddr_in *address, unsigned source);
/* Have epoll report `events` of a descriptor as `data`; `operation` as of epoll_ctl. */
void net_watch(int epoll, int operation, int fd, uint32_t events, uint64_t data);

#endif
