/* Who is subscribed to which channel; one channel per descriptor. */
#ifndef ROOMS_H
#define ROOMS_H

#include "command.h"

enum { MAX_FILES = 20000 };

struct room {
    struct text name;
    int *members; /* descriptors */
    size_t count, capacity;
};

/* The room of that name; NULL when nobody was ever in it. */
struct room *room_named(struct text name);
void room_join(struct text name, int fd);
/* Take a descriptor out of the room it is in, if any. */
void room_leave(int fd);

#endif
