/* In place of tls_openssl.c on a machine without OpenSSL's headers. */
#include <stddef.h>

#include "die.h"
#include "tls.h"

#define MISSING "built without TLS: OpenSSL's headers are missing"

void tls_client(const char *ca_file, const char *host)
{
    (void)ca_file, (void)host;
    die(MISSING);
}

void tls_server(const char *cert_file, const char *key_file)
{
    (void)cert_file, (void)key_file;
    die(MISSING);
}

struct tls *tls_new(int fd)
{
    (void)fd;
    return NULL;
}

bool tls_handshake(struct tls *tls)
{
    (void)tls;
    return false;
}

ssize_t tls_read(struct tls *tls, void *data, size_t size)
{
    (void)tls, (void)data, (void)size;
    return -1;
}

ssize_t tls_write(struct tls *tls, const void *data, size_t length)
{
    (void)tls, (void)data, (void)length;
    return -1;
}

bool tls_holds(const struct tls *tls)
{
    (void)tls;
    return false;
}

void tls_free(struct tls *tls)
{
    (void)tls;
}
