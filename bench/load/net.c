#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "die.h"

enum { BACKLOG = 4096 };

int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NANOSECONDS + now.tv_nsec;
}

struct sockaddr_in net_address(const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (port < 0 || port > 65535 || inet_pton(AF_INET, host, &address.sin_addr) != 1)
        die("not an IPv4 address and a port: %s %d", host, port);
    return address;
}

static void set(int fd, int level, int option)
{
    if (setsockopt(fd, level, option, &(int){1}, sizeof(int)) < 0)
        die_errno("setsockopt");
}

int net_listen(struct sockaddr_in *address)
{
    socklen_t size = sizeof *address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)address, size) < 0 || listen(fd, BACKLOG) < 0 ||
        getsockname(fd, (struct sockaddr *)address, &size) < 0)
        die_errno("cannot listen");
    return fd;
}

int net_accept(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        set(fd, IPPROTO_TCP, TCP_NODELAY);
    else if (errno != EAGAIN && errno != ECONNABORTED)
        die_errno("accept");
    return fd;
}

int net_connect(const struct sockaddr_in *address, unsigned source)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    set(fd, IPPROTO_TCP, TCP_NODELAY);
    if (source > 0) {
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000000 + source)};
        set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT); /* ports per destination, not per source address alone */
        if (bind(fd, (struct sockaddr *)&from, sizeof from) < 0)
            die_errno("cannot bind to 127.0.0.x");
    }
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

void net_watch(int epoll, int operation, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};
    if (epoll_ctl(epoll, operation, fd, &event) < 0)
        die_errno("epoll_ctl");
}
