/* Checks of the parts that need no socket. Prints one line for each that fails; exit status 1 when one did. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "command.h"
#include "fields.h"
#include "histogram.h"
#include "websocket.h"

static int failures;

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                             \
            failures++;                                                                                                \
        }                                                                                                              \
    } while (0)

static void check_histogram(void)
{
    static struct histogram histogram;
    CHECK(histogram_quantile(&histogram, 0.5) == 0);
    for (uint64_t value = 1; value <= 100000; value++)
        histogram_record(&histogram, value);
    const double quantiles[] = {0.001, 0.5, 0.99, 0.999};
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
        double exact = quantiles[i] * 100000, found = (double)histogram_quantile(&histogram, quantiles[i]);
        CHECK(found >= exact && found <= exact * 1.008);
    }
    CHECK(histogram_quantile(&histogram, 1) == 100000);
    histogram_record(&histogram, UINT64_MAX);
    CHECK(histogram.largest == UINT64_MAX && histogram.count == 100001);
    histogram_clear(&histogram);
    histogram_record(&histogram, 0);
    CHECK(histogram_quantile(&histogram, 0.99) == 0 && histogram.count == 1);
}

static void check_frames_of(size_t length)
{
    struct bytes out = {0};
    struct ws_frame frame;
    char *payload = calloc(1, length + 1), header[WS_MAX_HEADER];
    for (size_t i = 0; i < length; i++)
        payload[i] = (char)(i * 31);
    ws_append_masked(&out, WS_TEXT, payload, length, 0x01020304);
    for (size_t part = 0; part < out.length && part < 16; part++)
        CHECK(ws_parse(out.data, part, true, &frame) == 0);
    CHECK(ws_parse(out.data, out.length - 1, true, &frame) == 0);
    CHECK(ws_parse(out.data, out.length, false, &frame) == -1);
    CHECK(ws_parse(out.data, out.length, true, &frame) == (ssize_t)out.length);
    CHECK(frame.opcode == WS_TEXT && frame.final && frame.length == length);
    CHECK(memcmp(frame.payload, payload, length) == 0);
    out.length = ws_header(header, WS_PING, length);
    memcpy(out.data, header, out.length);
    bytes_append(&out, payload, length);
    CHECK(ws_parse(out.data, out.length, true, &frame) == -1);
    CHECK(ws_parse(out.data, out.length, false, &frame) == (ssize_t)out.length);
    CHECK(frame.opcode == WS_PING && memcmp(frame.payload, payload, length) == 0);
    bytes_free(&out);
    free(payload);
}

static void check_websocket(void)
{
    const size_t lengths[] = {0, 1, 2, 125, 126, 127, 65535, 65536, 70001};
    struct ws_frame frame;
    char reserved[] = {(char)0xa1, 0}, compressed[] = {(char)0xc1, 0};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        check_frames_of(lengths[i]);
    CHECK(ws_parse(reserved, 2, false, &frame) == -1);
    CHECK(ws_parse(compressed, 2, false, &frame) == 2 && frame.compressed);
    CHECK(ws_head("GET / HTTP/1.1\r\n\r\nrest", 22) == 18 && ws_head("GET / HTTP/1.1\r\n\r", 17) == 0);
}

static void check_payload(void)
{
    char text[200];
    struct stamp stamp, written = {.scheduled = 0x0123456789abcdef, .sequence = 0xdeadbeef};
    const size_t sizes[] = {PAYLOAD_LEAST, 128, sizeof text};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        payload_write(text, sizes[i], written);
        CHECK(memcmp(text, "{\"tw\":\"", 7) == 0 && memcmp(text + sizes[i] - 2, "\"}", 2) == 0);
        CHECK(payload_find(text, sizes[i], &stamp) != NULL);
        CHECK(stamp.scheduled == written.scheduled && stamp.sequence == written.sequence);
    }
    CHECK(payload_find(text, 20, &stamp) == NULL && payload_find("{}", 2, &stamp) == NULL);
}

/* What one item of a text is; its size goes to `*size`. */
static struct item read_one(const char *protocol, const char *text, size_t *size)
{
    struct item item;
    *size = codec_named(protocol)->read(text, strlen(text), &item);
    return item;
}

static enum item_kind kind(const char *protocol, const char *text)
{
    size_t size;
    return read_one(protocol, text, &size).kind;
}

static void check_codecs(void)
{
    size_t size;
    char text[400], payload[PAYLOAD_LEAST + 1] = "";
    payload_write(payload, PAYLOAD_LEAST, (struct stamp){7, 9});
    snprintf(text, sizeof text, "{\"push\":{\"id\":3,\"pub\":{\"data\":%s}}}\n{\"id\":17,\"publish\":{}}", payload);
    struct item item = read_one("centrifuge", text, &size);
    CHECK(item.kind == ITEM_DELIVERY && item.stamp.scheduled == 7 && item.stamp.sequence == 9);
    CHECK(text[size] == '{' && text[size - 1] == '\n');
    item = read_one("centrifuge", text + size, &size);
    CHECK(item.kind == ITEM_REPLY && item.id == 17);
    CHECK(kind("centrifuge", "{\"id\":5,\"error\":{\"code\":111}}") == ITEM_ERROR);
    CHECK(kind("centrifuge", "{}") == ITEM_PING);
    CHECK(kind("centrifuge", "{\"push\":{\"channel\":\"a\",\"join\":{}}}") == ITEM_NONE);
    snprintf(text, sizeof text, "42[\"publication\",%s]", payload);
    item = read_one("socketio", text, &size);
    CHECK(item.kind == ITEM_DELIVERY && item.stamp.sequence == 9 && size == strlen(text));
    item = read_one("socketio", "4312[]", &size);
    CHECK(item.kind == ITEM_REPLY && item.id == 12);
    CHECK(kind("socketio", "2") == ITEM_PING && kind("socketio", "0{\"sid\":\"a\"}") == ITEM_NONE);
    CHECK(kind("socketio", "40{\"sid\":\"a\"}") == ITEM_REPLY && kind("socketio", "44{}") == ITEM_ERROR);
}

static bool is(struct text text, const char *expected)
{
    return text.length == strlen(expected) && memcmp(text.start, expected, text.length) == 0;
}

static void check_commands(void)
{
    const struct codec *codec = codec_named("centrifuge");
    struct command command;
    char text[200];
    CHECK(command_read(text, codec->connect(text, sizeof text, "token"), &command) && command.method == 'c');
    CHECK(command_read(text, codec->subscribe(text, sizeof text, "live:1"), &command) && command.method == 's');
    CHECK(command.id == SUBSCRIBE_ID && is(command.channel, "live:1"));
    const struct text data = {"{\"a\":1}", 7};
    CHECK(command_read(text, codec->publish(text, sizeof text, 4000000000, "live:2", data), &command));
    CHECK(command.method == 'p' && command.id == 4000000000);
    CHECK(is(command.channel, "live:2") && is(command.data, "{\"a\":1}"));
    const char *refused[] = {"", "{}", "{\"id\":1}", "{\"id\":1,\"rpc\":{}}", "{\"id\":1,\"subscribe\":{}}",
                             "{\"id\":1,\"publish\":{\"channel\":\"a\"}}", "{\"connect\":{},\"id\":1}"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        CHECK(!command_read(refused[i], strlen(refused[i]), &command));
}

static void check_fields(void)
{
    const char *line = "{\"do\":\"run\", \"rate\": 2.5,\"window\":16}";
    char text[8];
    field_text(line, "do", text, sizeof text);
    CHECK(strcmp(text, "run") == 0);
    field_text(line, "prefix", text, sizeof text);
    CHECK(*text == '\0');
    CHECK(field_number(line, "rate", 0) == 2.5 && field_number(line, "window", 0) == 16);
    CHECK(field_number(line, "seconds", 4) == 4);
}

int main(void)
{
    check_histogram();
    check_websocket();
    check_payload();
    check_codecs();
    check_commands();
    check_fields();
    return failures > 0;
}
