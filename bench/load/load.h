/* The load generator's state, and what its parts do for one another. All runs on one thread. */
#ifndef LOAD_H
#define LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "bytes.h"
#include "codec.h"
#include "histogram.h"
#include "stream.h"

/* In this order; CLIENT_SECURING is the handshake of TLS. */
enum client_state {
    CLIENT_CLOSED,
    CLIENT_CONNECTING,
    CLIENT_SECURING,
    CLIENT_UPGRADING,
    CLIENT_OPEN,
    CLIENT_READY,
    CLIENT_SUBSCRIBED
};

struct client {
    struct stream stream;
    enum client_state state;
    uint32_t watched;  /* the events that epoll reports */
    uint32_t channel;  /* the number of its channel, once it subscribes */
    uint32_t expected; /* the sequence number that the next delivery must have */
    struct bytes unread;
    struct bytes unsent;
};

enum phase { PHASE_IDLE, PHASE_CONNECT, PHASE_SUBSCRIBE, PHASE_RUN };

/* How far a phase is that takes every connection through one step, at most `limit` of them at a time. */
struct progress {
    uint32_t count, next, pending, done, failed, limit;
    double rate; /* steps begun per second, 0: as fast as `limit` allows */
    int64_t began, last;
};

struct counts {
    uint64_t published, deliveries, frames, acks, errors, bytes;
};

/* A publication in flight: it waits for its acknowledgement and for each of its subscribers in this process. */
struct slot {
    int64_t scheduled;
    uint32_t sequence;
    uint32_t awaiting;
};

enum { SLOTS = 1024, MAX_WINDOW = 512 };

/* Connection p publishes to channel p, numbered from 0 in every run. */
struct publisher {
    uint32_t next;     /* sequence number of its next publication in this run */
    uint32_t base_id;  /* command id of the publication 0 of this run */
    uint32_t members;  /* subscribers of its channel in this process */
    bool unflushed;
    struct slot *slots;
};

enum stage { STAGE_WARMING, STAGE_MEASURING, STAGE_DRAINING };

struct run {
    enum stage stage;
    double rate;         /* publications per second from scheduled times; 0: closed loop */
    uint32_t window;     /* publications in flight per publisher in a closed loop */
    uint32_t publishing; /* publishers of this run */
    uint32_t spread;     /* channels of each */
    size_t payload;
    int64_t start, from, until, end; /* publishing from start to until, measured from `from` on, over at `end` */
    struct counts now, at_from, at_until;
    int64_t measured_from, measured_until;
    uint64_t expected, skipped, repeated, stale;
    int64_t last;   /* when the last delivery came */
    int64_t latest; /* how late the generator itself was at most, ns */
    struct histogram latency, ack_latency;
};

struct load {
    const struct codec *codec;
    struct sockaddr_in server;
    unsigned sources;
    bool secure; /* connections have TLS */
    char **tokens;
    uint32_t token_count;
    uint32_t key; /* state of the mask keys' generator */
    int epoll;
    int64_t now; /* when the bytes that are being handled were read */
    enum phase phase;
    bool bare; /* connecting ends with the upgrade */
    uint32_t channels;
    char prefix[128];
    struct client *clients;
    uint32_t capacity, opened;
    uint64_t closed; /* connections that the server ended outside of connecting and subscribing */
    int close_code;  /* of the last such, 0 without a close frame */
    struct progress progress;
    struct publisher *publishers;
    uint32_t publisher_count;
    struct run run;
};

/* client.c: one connection. */
void client_open(struct load *load, struct client *client);
void client_close(struct load *load, struct client *client);
/* Queue a command; client_flush sends what is queued. */
void client_send(struct load *load, struct client *client, const char *text, size_t length);
void client_flush(struct load *load, struct client *client);
void client_event(struct load *load, struct client *client, uint32_t events);
uint32_t client_number(const struct load *load, const struct client *client);

/* phases.c: connecting and subscribing, and what becomes of events of a connection. */
void connect_begin(struct load *load, const char *line);
void subscribe_begin(struct load *load, const char *line);
void close_all(struct load *load);
void progress_step(struct load *load);
int64_t progress_deadline(const struct load *load);
void on_upgraded(struct load *load, struct client *client);
void on_item(struct load *load, struct client *client, const struct item *item);
void on_lost(struct load *load, struct client *client, int close_code);
void channel_name(const struct load *load, uint32_t number, char *out, size_t size);

/* run.c: publishing and measuring. */
void run_begin(struct load *load, const char *line);
void run_step(struct load *load);
int64_t run_deadline(const struct load *load);
void run_delivered(struct load *load, struct client *client, const struct stamp *stamp);
void run_acked(struct load *load, struct client *client, uint32_t id, bool failed);

#endif
