#include "rooms.h"

#include <stdlib.h>
#include <string.h>

#include "die.h"

enum { ROOMS = 1 << 16 }; /* a table of open addressing, never full: at most MAX_FILES rooms */

static struct room rooms[ROOMS];
static struct room *room_of[MAX_FILES];

static struct room *place_of(struct text name)
{
    uint32_t hash = 2166136261; /* FNV-1a */
    for (size_t i = 0; i < name.length; i++)
        hash = (hash ^ (unsigned char)name.start[i]) * 16777619;
    struct room *room = &rooms[hash % ROOMS];
    while (room->name.start != NULL &&
           (room->name.length != name.length || memcmp(room->name.start, name.start, name.length) != 0))
        room = room == &rooms[ROOMS - 1] ? rooms : room + 1;
    return room;
}

struct room *room_named(struct text name)
{
    struct room *room = place_of(name);
    return room->name.start == NULL ? NULL : room;
}

void room_join(struct text name, int fd)
{
    static size_t known;
    struct room *room = place_of(name);
    room_leave(fd);
    if (room->name.start == NULL) {
        if (++known > MAX_FILES)
            die("more than %d channels", MAX_FILES);
        room->name = (struct text){strndup(name.start, name.length), name.length};
    }
    if (room->count == room->capacity) {
        room->capacity = room->capacity ? room->capacity * 2 : 16;
        room->members = realloc(room->members, room->capacity * sizeof *room->members);
        if (room->members == NULL)
            die("out of memory");
    }
    room->members[room->count++] = fd;
    room_of[fd] = room;
}

void room_leave(int fd)
{
    struct room *room = room_of[fd];
    room_of[fd] = NULL;
    for (size_t i = 0; room != NULL && i < room->count; i++)
        if (room->members[i] == fd) {
            room->members[i] = room->members[--room->count];
            return;
        }
}
