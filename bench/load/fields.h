/* Fields of the flat JSON objects that the runner and the tools exchange, one a line: no nesting, no escapes. */
#ifndef FIELDS_H
#define FIELDS_H

#include <stddef.h>

/* The number of a field, or `otherwise` where there is none. */
double field_number(const char *line, const char *name, double otherwise);
/* Copy the text of a field, or "" where there is none; ends the process when it does not fit. */
void field_text(const char *line, const char *name, char *out, size_t size);

#endif
