#include "fields.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "die.h"

static const char *value_of(const char *line, const char *name)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", name);
    const char *found = strstr(line, quoted);
    return found == NULL ? NULL : found + strlen(quoted) + strspn(found + strlen(quoted), " ");
}

double field_number(const char *line, const char *name, double otherwise)
{
    const char *value = value_of(line, name);
    return value == NULL ? otherwise : strtod(value, NULL);
}

void field_text(const char *line, const char *name, char *out, size_t size)
{
    const char *value = value_of(line, name);
    size_t length = value == NULL || *value != '"' ? 0 : strcspn(++value, "\"");
    if (length >= size)
        die("%s is too long", name);
    if (length > 0)
        memcpy(out, value, length);
    out[length] = '\0';
}
