/* Publishing on a schedule or in a closed loop, and measuring what comes back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "die.h"
#include "fields.h"
#include "load.h"
#include "net.h"

static char command[PAYLOAD_MOST + 512];
static char payload[PAYLOAD_MOST];

static int64_t nanoseconds(double seconds)
{
    return (int64_t)(seconds * NANOSECONDS);
}

static void prepare_publishers(struct load *load, uint32_t count)
{
    if (count > load->opened || (load->channels && count > load->channels))
        die("%u publishers for %u connections and %u channels", count, load->opened, load->channels);
    if (count > load->publisher_count) {
        load->publishers = realloc(load->publishers, count * sizeof *load->publishers);
        for (; load->publishers != NULL && load->publisher_count < count; load->publisher_count++)
            load->publishers[load->publisher_count] = (struct publisher){
                .base_id = FIRST_PUBLISH_ID,
                .slots = calloc(SLOTS, sizeof(struct slot)),
            };
    }
    for (uint32_t p = 0; p < count; p++) {
        struct publisher *publisher = &load->publishers[p];
        publisher->base_id += publisher->next;
        publisher->next = publisher->members = 0;
        if (publisher->slots == NULL)
            die("out of memory");
        memset(publisher->slots, 0, SLOTS * sizeof *publisher->slots);
    }
}

static void count_members(struct load *load)
{
    for (uint32_t i = 0; i < load->opened; i++) {
        struct client *client = &load->clients[i];
        client->expected = 0;
        if (client->state == CLIENT_SUBSCRIBED && client->channel < load->run.publishing)
            load->publishers[client->channel].members++;
    }
}

static void publish(struct load *load, uint32_t number, int64_t scheduled)
{
    struct publisher *publisher = &load->publishers[number];
    struct run *run = &load->run;
    char channel[192];
    uint32_t sequence = publisher->next++;
    publisher->slots[sequence % SLOTS] = (struct slot){scheduled, sequence, publisher->members + 1};
    publisher->unflushed = true;
    run->now.published++;
    run->expected += publisher->members;
    channel_name(load, number * run->spread + sequence % run->spread, channel, sizeof channel);
    payload_write(payload, run->payload, (struct stamp){scheduled, sequence});
    struct text data = {payload, run->payload};
    uint32_t id = publisher->base_id + sequence;
    client_send(load, &load->clients[number], command,
                load->codec->publish(command, sizeof command, id, channel, data));
}

/* Without publishers the process only listens; it is started before the one that publishes. Where nobody subscribes, a
 * publisher may have `spread` channels of its own, which it takes in turn.
 * {"do":"run","publishers":N,"rate":R | "window":W,"warmup":S,"seconds":S,"drain":S,"payload":128,"prefix":"live:","spread":1}. */
void run_begin(struct load *load, const char *line)
{
    struct run *run = &load->run;
    memset(run, 0, sizeof *run);
    run->rate = field_number(line, "rate", 0);
    run->window = (uint32_t)field_number(line, "window", 0);
    run->publishing = (uint32_t)field_number(line, "publishers", 0);
    run->payload = (size_t)field_number(line, "payload", 128);
    run->spread = (uint32_t)field_number(line, "spread", 1);
    if (load->channels == 0)
        field_text(line, "prefix", load->prefix, sizeof load->prefix);
    if (run->spread < 1 || (run->spread > 1 && load->channels > 0))
        die("channels of publishers' own beside those of subscribers: %s", line);
    if (run->window > MAX_WINDOW || run->payload < PAYLOAD_LEAST || run->payload > PAYLOAD_MOST ||
        (run->publishing > 0 && (run->rate > 0) == (run->window > 0)))
        die("not a run: %s", line);
    prepare_publishers(load, run->publishing);
    count_members(load);
    load->phase = PHASE_RUN;
    run->start = now_ns();
    puts("{\"event\":\"started\"}"); /* what others publish from now on is of this run */
    run->from = run->start + nanoseconds(field_number(line, "warmup", 1));
    run->until = run->from + nanoseconds(field_number(line, "seconds", 4));
    run->end = run->until + nanoseconds(field_number(line, "drain", 10));
    for (uint32_t p = 0; p < run->publishing; p++)
        for (uint32_t i = 0; i < run->window; i++)
            publish(load, p, now_ns());
}

static int64_t next_due(const struct run *run)
{
    if (run->rate <= 0 || run->publishing == 0)
        return INT64_MAX;
    int64_t due = run->start + (int64_t)((double)run->now.published * NANOSECONDS / run->rate);
    return due < run->until ? due : INT64_MAX;
}

static void publish_due(struct load *load)
{
    struct run *run = &load->run;
    int64_t now = now_ns();
    for (int64_t due; (due = next_due(run)) <= now;) {
        if (now - due > run->latest)
            run->latest = now - due;
        publish(load, (uint32_t)(run->now.published % run->publishing), due);
    }
}

static void flush_publishers(struct load *load)
{
    for (uint32_t p = 0; p < load->run.publishing; p++)
        if (load->publishers[p].unflushed) {
            load->publishers[p].unflushed = false;
            client_flush(load, &load->clients[p]);
        }
}

static bool in_window(const struct run *run, int64_t scheduled)
{
    return scheduled >= run->from && scheduled < run->until;
}

/* One of those that a publication waits for has answered; after the last, a closed loop publishes the next. */
static void answered(struct load *load, uint32_t number, struct slot *slot)
{
    if (--slot->awaiting == 0 && load->run.window > 0 && load->now < load->run.until)
        publish(load, number, load->now);
}

void run_delivered(struct load *load, struct client *client, const struct stamp *stamp)
{
    struct run *run = &load->run;
    if (load->phase != PHASE_RUN || stamp->scheduled < run->start) {
        run->stale++; /* of an earlier run that did not wait for it */
        return;
    }
    run->now.deliveries++;
    run->last = load->now;
    if (stamp->sequence >= client->expected) {
        run->skipped += stamp->sequence - client->expected;
        client->expected = stamp->sequence + 1;
    } else {
        run->repeated++;
    }
    if (in_window(run, stamp->scheduled))
        histogram_record(&run->latency, (uint64_t)(load->now - stamp->scheduled));
    if (client->channel < run->publishing) {
        struct slot *slot = &load->publishers[client->channel].slots[stamp->sequence % SLOTS];
        if (slot->sequence == stamp->sequence && slot->awaiting > 0)
            answered(load, client->channel, slot);
    }
}

void run_acked(struct load *load, struct client *client, uint32_t id, bool failed)
{
    struct run *run = &load->run;
    uint32_t number = client_number(load, client);
    if (load->phase != PHASE_RUN || number >= run->publishing || id < load->publishers[number].base_id) {
        run->stale++;
        return;
    }
    uint32_t sequence = id - load->publishers[number].base_id;
    struct slot *slot = &load->publishers[number].slots[sequence % SLOTS];
    *(failed ? &run->now.errors : &run->now.acks) += 1;
    if (slot->sequence != sequence || slot->awaiting == 0)
        return;
    if (in_window(run, slot->scheduled) && !failed)
        histogram_record(&run->ack_latency, (uint64_t)(load->now - slot->scheduled));
    answered(load, number, slot);
}

static void report_quantiles(const char *prefix, const struct histogram *histogram)
{
    static const struct {
        const char *name;
        double quantile;
    } QUANTILES[] = {{"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1}};
    for (size_t i = 0; i < sizeof QUANTILES / sizeof *QUANTILES; i++)
        printf(",\"%s%s_us\":%.1f", prefix, QUANTILES[i].name,
               (double)histogram_quantile(histogram, QUANTILES[i].quantile) / 1e3);
}

/* What has not come by the end of the run. */
static uint64_t undelivered(const struct load *load)
{
    uint64_t missing = 0;
    for (uint32_t i = 0; i < load->opened; i++) {
        const struct client *client = &load->clients[i];
        if (client->state == CLIENT_SUBSCRIBED && client->channel < load->run.publishing)
            missing += load->publishers[client->channel].next - client->expected;
    }
    return missing;
}

static void finish(struct load *load)
{
    const struct run *run = &load->run;
    const struct counts *from = &run->at_from, *until = &run->at_until;
    printf("{\"event\":\"run\",\"seconds\":%.6f,\"published\":%lu,\"deliveries\":%lu,\"frames\":%lu,\"acks\":%lu,\"bytes\":%lu",
           (double)(run->measured_until - run->measured_from) / NANOSECONDS, until->published - from->published,
           until->deliveries - from->deliveries, until->frames - from->frames, until->acks - from->acks,
           until->bytes - from->bytes);
    printf(",\"all_published\":%lu,\"all_deliveries\":%lu,\"unanswered\":%lu,\"undelivered\":%lu,\"skipped\":%lu",
           run->now.published, run->now.deliveries, run->now.published - run->now.acks - run->now.errors,
           undelivered(load), run->skipped);
    printf(",\"repeated\":%lu,\"stale\":%lu,\"errors\":%lu,\"closed\":%lu,\"close_code\":%d,\"late_us\":%.1f",
           run->repeated, run->stale, run->now.errors, load->closed, load->close_code, (double)run->latest / 1e3);
    report_quantiles("", &run->latency);
    report_quantiles("ack_", &run->ack_latency);
    puts("}");
    load->phase = PHASE_IDLE;
}

/* For longer than a machine stands still: what comes behind that would be taken for lost. */
#define QUIET (2 * NANOSECONDS)

/* When a process that only listens takes it that nothing more will come. */
static int64_t quiet_at(const struct run *run)
{
    int64_t last = run->last > run->until ? run->last : run->until;
    return last + QUIET < run->end ? last + QUIET : run->end;
}

static bool drained(const struct run *run)
{
    return run->now.deliveries >= run->expected && run->now.acks + run->now.errors >= run->now.published;
}

static int64_t stage_end(const struct run *run)
{
    switch (run->stage) {
    case STAGE_WARMING:
        return run->from;
    case STAGE_MEASURING:
        return run->until;
    default:
        return run->publishing == 0 ? quiet_at(run) : drained(run) ? 0 : run->end;
    }
}

void run_step(struct load *load)
{
    struct run *run = &load->run;
    publish_due(load);
    flush_publishers(load);
    int64_t now = now_ns();
    if (now < stage_end(run))
        return;
    switch (run->stage) {
    case STAGE_WARMING:
        run->stage = STAGE_MEASURING;
        run->at_from = run->now;
        run->measured_from = now;
        puts("{\"event\":\"measuring\"}");
        break;
    case STAGE_MEASURING:
        run->stage = STAGE_DRAINING;
        run->at_until = run->now;
        run->measured_until = now;
        puts("{\"event\":\"measured\"}");
        break;
    case STAGE_DRAINING:
        finish(load);
    }
}

int64_t run_deadline(const struct load *load)
{
    int64_t due = next_due(&load->run), end = stage_end(&load->run);
    return due < end ? due : end;
}
