/*
 * server MODEL PREFIX [REQUESTS]: a sketch of a server on the loopback interface. All requests share a prefix, which is read once: each
 * connection gets a fork of the session that has read it, sends one line, and gets its continuation. One thread, one event loop. The port
 * is printed; after REQUESTS connections it ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <infer/infer.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LINE = 4096, TOKENS = 60 };

typedef struct client {
    int socket;
    infer_session *session; /* from its line on */
    infer_decoder *decoder;
    char line[LINE];
    size_t bytes;
} client;

typedef struct server {
    infer_model *model;
    infer_session *prefix;
    int loop, listener;
} server;

static int watch(const server *s, int fd, void *what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};
    return epoll_ctl(s->loop, EPOLL_CTL_ADD, fd, &event);
}

static void end(client *c)
{
    close(c->socket); /* closed descriptors leave the loop by themselves */
    infer_decoder_destroy(c->decoder);
    infer_session_destroy(c->session); /* cancels what still runs */
    free(c);
}

static int start(const server *s, client *c)
{
    infer_generate_options options = {.size = sizeof options, .max_tokens = TOKENS, .end = -1};
    int32_t ids[LINE];
    infer_error err;
    size_t n;
    if (infer_session_fork(s->prefix, &c->session, &err) || infer_decoder_create(s->model, &c->decoder, &err) ||
        infer_model_tokenize(s->model, c->line, c->bytes, 0, ids, LINE, &n, &err) ||
        infer_session_start(c->session, ids, n, &options, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    return watch(s, infer_session_fd(c->session), c);
}

/* The socket, before its line is there; the generation, afterwards. -1: it is over. */
static int serve(const server *s, client *c)
{
    int32_t ids[16];
    size_t n = 0, bytes;
    const char *text;
    int done = 0;
    if (!c->session) {
        ssize_t got = recv(c->socket, c->line + c->bytes, LINE - c->bytes, 0);
        char *newline;
        if (got <= 0)
            return got < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
        newline = memchr(c->line + c->bytes, '\n', (size_t)got);
        c->bytes += (size_t)got;
        if (!newline)
            return c->bytes < LINE ? 0 : -1;
        c->bytes = (size_t)(newline - c->line);
        epoll_ctl(s->loop, EPOLL_CTL_DEL, c->socket, NULL);
        return c->bytes ? start(s, c) : -1;
    }
    (void)infer_session_poll(c->session, ids, 16, &n, &done, NULL); /* how it ended does not matter here */
    for (size_t i = 0; i < n; i++)
        if (infer_decoder_push(c->decoder, ids[i], &text, &bytes) || send(c->socket, text, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
            return -1; /* a real server would keep what a slow client did not take */
    return done ? -1 : 0;
}

static int run(server *s, long requests)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    long open = 0;
    s->loop = epoll_create1(EPOLL_CLOEXEC);
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bind(s->listener, (struct sockaddr *)&address, size) || listen(s->listener, 16) ||
        getsockname(s->listener, (struct sockaddr *)&address, &size) || watch(s, s->listener, NULL)) {
        perror("server");
        return 1;
    }
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    while (requests || open) {
        struct epoll_event event; /* one at a time: a client that ends takes no other event with it */
        if (epoll_wait(s->loop, &event, 1, -1) < 1)
            continue;
        if (event.data.ptr) {
            if (serve(s, event.data.ptr) < 0) {
                end(event.data.ptr);
                open--;
            }
        } else {
            client *c = calloc(1, sizeof *c);
            int socket = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
            if (!c || socket < 0 || requests == 0) {
                free(c);
                if (socket >= 0)
                    close(socket);
                continue;
            }
            requests -= requests > 0;
            c->socket = socket;
            open++;
            if (watch(s, socket, c)) {
                end(c);
                open--;
            }
        }
    }
    close(s->listener);
    close(s->loop);
    return 0;
}

int main(int argc, char **argv)
{
    server s = {0};
    infer_runtime *rt = NULL;
    infer_error err = {INFER_OK, ""};
    int32_t ids[LINE];
    size_t n;
    int status = 1;
    if (argc < 3) {
        fputs("usage: server MODEL PREFIX [REQUESTS]\n", stderr);
        return 2;
    }
    if (infer_runtime_create(NULL, &rt, &err) || infer_model_open(rt, argv[1], NULL, &s.model, &err) ||
        infer_session_create(s.model, NULL, &s.prefix, &err) ||
        infer_model_tokenize(s.model, argv[2], strlen(argv[2]), INFER_TOKENIZE_BOS, ids, LINE, &n, &err) ||
        infer_session_eval(s.prefix, ids, n, INFER_LOGITS_NONE, &err))
        fprintf(stderr, "%s\n", err.message);
    else
        status = run(&s, argc > 3 ? strtol(argv[3], NULL, 10) : -1);
    infer_session_destroy(s.prefix);
    infer_model_close(s.model);
    infer_runtime_destroy(rt);
    return status;
}
