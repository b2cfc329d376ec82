/*
 * epoll_loop MODEL PROMPT...: every prompt is continued at the same time by one thread, which sleeps in epoll_wait and never blocks for a
 * token: a clock goes on beside. The generations run on libinfer's threads.
 */
#define _GNU_SOURCE
#include <infer/infer.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { STORIES = 16, PROMPT = 256, TOKENS = 100 };

typedef struct story {
    infer_session *session;
    infer_decoder *decoder;
    char text[16384];
    size_t bytes;
} story;

static infer_status begin(story *s, infer_model *model, const char *prompt, int loop, infer_error *err)
{
    infer_generate_options options = {.size = sizeof options, .max_tokens = TOKENS, .end = -1};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
    int32_t ids[PROMPT];
    size_t n;
    infer_status status;
    if ((status = infer_session_create(model, NULL, &s->session, err)) || (status = infer_decoder_create(model, &s->decoder, err)) ||
        (status = infer_model_tokenize(model, prompt, strlen(prompt), INFER_TOKENIZE_BOS, ids, PROMPT, &n, err)) ||
        (status = infer_session_start(s->session, ids, n, &options, err)))
        return status;
    return epoll_ctl(loop, EPOLL_CTL_ADD, infer_session_fd(s->session), &event) == 0 ? INFER_OK : INFER_ERROR_IO;
}

/* What is there, without waiting. 1: that was the end. */
static int go_on(story *s)
{
    int32_t ids[16];
    size_t n = 0, bytes;
    const char *text;
    int done = 0;
    infer_error err = {INFER_OK, ""};
    if (infer_session_poll(s->session, ids, 16, &n, &done, &err) != INFER_OK)
        fprintf(stderr, "%s\n", err.message);
    for (size_t i = 0; i < n; i++)
        if (infer_decoder_push(s->decoder, ids[i], &text, &bytes) == INFER_OK && bytes < sizeof s->text - s->bytes) {
            memcpy(s->text + s->bytes, text, bytes);
            s->bytes += bytes;
        }
    return done;
}

int main(int argc, char **argv)
{
    struct itimerspec every = {.it_interval = {0, 1000000}, .it_value = {0, 1000000}}; /* a millisecond */
    int loop = epoll_create1(EPOLL_CLOEXEC), clock = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), count = argc - 2, running = 0;
    struct epoll_event tick = {.events = EPOLLIN};
    static story stories[STORIES];
    infer_error err = {INFER_OK, ""};
    infer_runtime *rt = NULL;
    infer_model *model = NULL;
    uint64_t ticks = 0;
    if (count < 1 || count > STORIES) {
        fputs("usage: epoll_loop MODEL PROMPT...\n", stderr);
        return 2;
    }
    timerfd_settime(clock, 0, &every, NULL);
    epoll_ctl(loop, EPOLL_CTL_ADD, clock, &tick);
    if (infer_runtime_create(NULL, &rt, &err) == INFER_OK && infer_model_open(rt, argv[1], NULL, &model, &err) == INFER_OK)
        while (running < count && begin(&stories[running], model, argv[2 + running], loop, &err) == INFER_OK)
            running++;
    if (running < count)
        fprintf(stderr, "%s\n", err.message);
    for (int left = running == count ? count : 0; left;) {
        struct epoll_event events[STORIES + 1];
        int n = epoll_wait(loop, events, STORIES + 1, -1);
        for (int i = 0; i < n; i++) {
            uint64_t elapsed;
            if (events[i].data.ptr)
                left -= go_on(events[i].data.ptr);
            else if (read(clock, &elapsed, sizeof elapsed) == sizeof elapsed)
                ticks += elapsed;
        }
    }
    for (int i = 0; i < count; i++) {
        if (running == count)
            printf("%.*s\n", (int)stories[i].bytes, stories[i].text);
        infer_decoder_destroy(stories[i].decoder);
        infer_session_destroy(stories[i].session);
    }
    fprintf(stderr, "%llu ms passed in the loop\n", (unsigned long long)ticks);
    infer_model_close(model);
    infer_runtime_destroy(rt);
    close(clock);
    close(loop);
    return running < count;
}
