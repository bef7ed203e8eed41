/* Commands of the Centrifuge protocol, in the one shape in which the load generator writes them. */
#ifndef COMMAND_H
#define COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "text.h"

struct command {
    uint32_t id;
    char method; /* c(onnect), s(ubscribe) or p(ublish) */
    struct text channel;
    struct text data; /* of a publish */
};

/* Read {"id":N,"<method>":{..}}; of subscribe and publish the first field is the channel, of publish the second and
 * last the data. False for anything else. Nothing is checked that the caller does not need. */
bool command_read(const char *line, size_t length, struct command *command);

#endif
