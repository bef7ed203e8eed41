#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>

#include "die.h"
#include "tls.h"

/* `struct tls` is OpenSSL's SSL by another name, so that nobody else needs its headers. */
#define SSL_OF(tls) ((SSL *)(tls))

static SSL_CTX *context;

static void begin(const SSL_METHOD *method)
{
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    context = SSL_CTX_new(method);
    if (context == NULL || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION))
        die("OpenSSL does not speak TLS 1.3");
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
}

void tls_client(const char *ca_file, const char *host)
{
    begin(TLS_client_method());
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    if (!SSL_CTX_load_verify_locations(context, ca_file, NULL))
        die("no certificates in %s", ca_file);
    if (!X509_VERIFY_PARAM_set1_ip_asc(SSL_CTX_get0_param(context), host))
        die("not an address: %s", host);
}

void tls_server(const char *cert_file, const char *key_file)
{
    begin(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(context, cert_file) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key_file, SSL_FILETYPE_PEM) != 1)
        die("not a certificate and its key: %s, %s", cert_file, key_file);
}

struct tls *tls_new(int fd)
{
    SSL *ssl = SSL_new(context);
    if (ssl == NULL || !SSL_set_fd(ssl, fd))
        die("out of memory");
    if (SSL_is_server(ssl))
        SSL_set_accept_state(ssl);
    else
        SSL_set_connect_state(ssl);
    return (struct tls *)ssl;
}

/* What a call returned, with errno as of read(2) and send(2). */
static ssize_t outcome(struct tls *tls, int result)
{
    if (result > 0)
        return result;
    switch (SSL_get_error(SSL_OF(tls), result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        errno = EPROTO;
        return -1;
    }
}

bool tls_handshake(struct tls *tls)
{
    ERR_clear_error();
    return outcome(tls, SSL_do_handshake(SSL_OF(tls))) > 0;
}

ssize_t tls_read(struct tls *tls, void *data, size_t size)
{
    ERR_clear_error();
    return outcome(tls, SSL_read(SSL_OF(tls), data, (int)size));
}

ssize_t tls_write(struct tls *tls, const void *data, size_t length)
{
    ERR_clear_error();
    return outcome(tls, SSL_write(SSL_OF(tls), data, (int)length));
}

bool tls_holds(const struct tls *tls)
{
    return SSL_pending((const SSL *)tls) > 0;
}

void tls_free(struct tls *tls)
{
    SSL_free(SSL_OF(tls));
}
