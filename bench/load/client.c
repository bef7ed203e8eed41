/* One connection: socket, upgrade, frames. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "die.h"
#include "inflate.h"
#include "load.h"
#include "net.h"
#include "websocket.h"

/* What a current browser sends, but for Origin (an edge must be told which to allow) and compression. */
#define UPGRADE                                                                                               \
    "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nConnection: Upgrade\r\nPragma: no-cache\r\n"                    \
    "Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, "      \
    "like Gecko) Chrome/140.0.0.0 Safari/537.36\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"       \
    "Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\n"                         \
    "Sec-WebSocket-Key: " WS_KEY "\r\n%s\r\n"

static char inbox[1 << 18]; /* the bytes being read, of any connection */

uint32_t client_number(const struct load *load, const struct client *client)
{
    return (uint32_t)(client - load->clients);
}

static void watch(struct load *load, struct client *client, uint32_t events)
{
    if (events != client->watched)
        net_watch(load->epoll, EPOLL_CTL_MOD, client->stream.fd, events, client_number(load, client));
    client->watched = events;
}

void client_open(struct load *load, struct client *client)
{
    unsigned source = load->sources ? client_number(load, client) % load->sources + 1 : 0;
    *client = (struct client){.stream = {.fd = net_connect(&load->server, source)}, .state = CLIENT_CONNECTING};
    if (client->stream.fd < 0) {
        on_lost(load, client, 0);
        return;
    }
    client->watched = EPOLLOUT;
    net_watch(load->epoll, EPOLL_CTL_ADD, client->stream.fd, EPOLLOUT, client_number(load, client));
}

void client_close(struct load *load, struct client *client)
{
    (void)load;
    stream_close(&client->stream);
    bytes_free(&client->unread);
    bytes_free(&client->unsent);
    client->state = CLIENT_CLOSED;
}

static uint32_t next_key(struct load *load)
{
    load->key ^= load->key << 13;
    load->key ^= load->key >> 17;
    load->key ^= load->key << 5;
    return load->key;
}

void client_send(struct load *load, struct client *client, const char *text, size_t length)
{
    ws_append_masked(&client->unsent, WS_TEXT, text, length, next_key(load));
}

void client_flush(struct load *load, struct client *client)
{
    if (client->state == CLIENT_CLOSED)
        return;
    if (!stream_flush(&client->stream, &client->unsent))
        on_lost(load, client, 0);
    else
        watch(load, client, client->unsent.length > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void send_upgrade(struct load *load, struct client *client)
{
    char request[1024];
    const char *headers = load->codec->headers != NULL ? load->codec->headers : "";
    int length = snprintf(request, sizeof request, UPGRADE, load->codec->target, ntohs(load->server.sin_port), headers);
    client->state = CLIENT_UPGRADING;
    bytes_append(&client->unsent, request, (size_t)length);
    client_flush(load, client);
}

/* Connected: carry on the handshake of TLS, if there is to be one, and then the upgrade. */
static void secure(struct load *load, struct client *client)
{
    if (client->state == CLIENT_CONNECTING && load->secure)
        client->stream.tls = tls_new(client->stream.fd);
    client->state = CLIENT_SECURING;
    switch (stream_handshake(&client->stream)) {
    case HANDSHAKE_DONE:
        send_upgrade(load, client);
        break;
    case HANDSHAKE_GOES_ON:
        watch(load, client, EPOLLIN);
        break;
    case HANDSHAKE_BROKEN:
        on_lost(load, client, 0);
    }
}

/* Returns the size of the answer, 0 when its end has not come; a refusal ends the connection. */
static size_t read_upgrade(struct load *load, struct client *client, const char *data, size_t length)
{
    size_t head = ws_head(data, length);
    if (head == 0)
        return 0;
    if (memcmp(data, "HTTP/1.1 101 ", 13) != 0 || memmem(data, head, WS_ACCEPT, sizeof WS_ACCEPT - 1) == NULL) {
        on_lost(load, client, 0);
        return 0;
    }
    client->state = CLIENT_OPEN;
    on_upgraded(load, client);
    return head;
}

static void read_items(struct load *load, struct client *client, const char *text, size_t length)
{
    uint64_t before = load->run.now.deliveries;
    struct item item;
    for (size_t at = 0; at < length && client->state != CLIENT_CLOSED;) {
        at += load->codec->read(text + at, length - at, &item);
        on_item(load, client, &item);
    }
    load->run.now.frames += load->run.now.deliveries != before;
}

static void read_message(struct load *load, struct client *client, const struct ws_frame *frame)
{
    static char inflated[1 << 18];
    if (!frame->final)
        die("a fragmented message: no server under test sends any");
    if (!frame->compressed) {
        read_items(load, client, frame->payload, frame->length);
        return;
    }
    ssize_t length = inflate_message(frame->payload, frame->length, inflated, sizeof inflated);
    if (length < 0)
        die("a message that cannot be decompressed");
    read_items(load, client, inflated, (size_t)length);
}

static void handle(struct load *load, struct client *client, const struct ws_frame *frame)
{
    const unsigned char *payload = (unsigned char *)frame->payload;
    switch (frame->opcode) {
    case WS_TEXT:
        read_message(load, client, frame);
        break;
    case WS_PING:
        ws_append_masked(&client->unsent, WS_PONG, frame->payload, frame->length, next_key(load));
        client_flush(load, client);
        break;
    case WS_CLOSE:
        on_lost(load, client, frame->length >= 2 ? payload[0] << 8 | payload[1] : 1005);
        break;
    default:
        break;
    }
}

static void receive_once(struct load *load, struct client *client)
{
    size_t held = client->unread.length, used = 0;
    if (held > 0)
        memcpy(inbox, client->unread.data, held);
    ssize_t got = stream_read(&client->stream, inbox + held, sizeof inbox - held);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) { /* ended, broken, or a frame larger than the inbox */
        on_lost(load, client, 0);
        return;
    }
    load->now = now_ns();
    load->run.now.bytes += (size_t)got;
    size_t length = held + (size_t)got;
    if (client->state == CLIENT_UPGRADING)
        used = read_upgrade(load, client, inbox, length);
    while (client->state >= CLIENT_OPEN) {
        struct ws_frame frame;
        ssize_t size = ws_parse(inbox + used, length - used, false, &frame);
        if (size < 0)
            die("a malformed frame from the server");
        if (size == 0)
            break;
        handle(load, client, &frame);
        used += (size_t)size;
    }
    client->unread.length = 0;
    if (client->state != CLIENT_CLOSED)
        bytes_append(&client->unread, inbox + used, length - used);
}

static void receive(struct load *load, struct client *client)
{
    do
        receive_once(load, client);
    while (stream_holds(&client->stream));
}

void client_event(struct load *load, struct client *client, uint32_t events)
{
    if (client->state == CLIENT_CLOSED)
        return;
    if (client->state == CLIENT_CONNECTING && events & (EPOLLERR | EPOLLHUP))
        on_lost(load, client, 0);
    else if (client->state <= CLIENT_SECURING)
        secure(load, client);
    else if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
        receive(load, client);
    if (events & EPOLLOUT && client->unsent.length > 0)
        client_flush(load, client);
}
