/* TLS over sockets that never block. The Makefile links tls_openssl.c, or tls_none.c where OpenSSL's headers are missing:
 * then tls_client and tls_server end the process. */
#ifndef TLS_H
#define TLS_H

#include <stdbool.h>
#include <sys/types.h>

struct tls;

/* From now on tls_new makes clients of TLS 1.3 that trust who `ca_file` (PEM) names, and demand a certificate of `host`. */
void tls_client(const char *ca_file, const char *host);
/* From now on tls_new makes servers of TLS 1.3 with this certificate and key (PEM). */
void tls_server(const char *cert_file, const char *key_file);
struct tls *tls_new(int fd);
/* Whether the handshake is done; if not, errno is EAGAIN, or EPROTO when it has failed. */
bool tls_handshake(struct tls *tls);
/* As read(2) and send(2), but that a failure of TLS is EPROTO. What was not written must be written again as it was. */
ssize_t tls_read(struct tls *tls, void *data, size_t size);
ssize_t tls_write(struct tls *tls, const void *data, size_t length);
/* Whether bytes of a record were read from the socket that tls_read has not returned. */
bool tls_holds(const struct tls *tls);
/* Forget it without a goodbye; the socket stays. */
void tls_free(struct tls *tls);

#endif
