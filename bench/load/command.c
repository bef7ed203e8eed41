#include "command.h"

#include <string.h>

/* Step over `expected` at `*at`. */
static bool skip(const char **at, const char *end, const char *expected)
{
    size_t length = strlen(expected);
    if ((size_t)(end - *at) < length || memcmp(*at, expected, length) != 0)
        return false;
    *at += length;
    return true;
}

static bool read_channel(const char **at, const char *end, struct text *channel)
{
    if (!skip(at, end, "\"channel\":\""))
        return false;
    const char *quote = memchr(*at, '"', (size_t)(end - *at));
    if (quote == NULL)
        return false;
    *channel = (struct text){*at, (size_t)(quote - *at)};
    *at = quote + 1;
    return true;
}

bool command_read(const char *line, size_t length, struct command *command)
{
    const char *at = line, *end = line + length;
    if (!skip(&at, end, "{\"id\":"))
        return false;
    for (command->id = 0; at < end && *at >= '0' && *at <= '9'; at++)
        command->id = command->id * 10 + (uint32_t)(*at - '0');
    if (!skip(&at, end, ",\"") || end - at < 2 || memcmp(end - 2, "}}", 2) != 0)
        return false;
    command->method = *at;
    if (skip(&at, end, "connect\":{"))
        return true;
    if (skip(&at, end, "subscribe\":{"))
        return read_channel(&at, end, &command->channel);
    if (!skip(&at, end, "publish\":{") || !read_channel(&at, end, &command->channel) || !skip(&at, end, ",\"data\":"))
        return false;
    command->data = (struct text){at, (size_t)(end - 2 - at)};
    return true;
}
