/* Ending on an error that no measurement survives: one line on standard error, exit status 1. */
#ifndef DIE_H
#define DIE_H

_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same with what errno says. */
_Noreturn void die_errno(const char *what);

#endif
