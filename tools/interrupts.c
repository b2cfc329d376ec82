#include "interrupts.h"

#include "core/core.h"

#include <unistd.h>

volatile sig_atomic_t cli_interrupted;
static infer_session *volatile sessions[CLI_SESSIONS];
static volatile sig_atomic_t session_count;

static void on_interrupt(int signal_number)
{
    static uint64_t first_ns;

    if (!cli_interrupted)
        first_ns = infer_now_ns();
    else if (infer_now_ns() - first_ns > 1000000000u)
        _exit(CLI_EXIT_INTERRUPTED);
    cli_interrupted = signal_number;
    for (int i = 0; i < session_count; i++)
        infer_session_cancel(sessions[i]); /* one atomic store */
}

void cli_catch_interrupts(void)
{
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};

    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGINT);
    sigaddset(&action.sa_mask, SIGTERM);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

void cli_cancel_session(infer_session *session)
{
    if (!session) {
        session_count = 0;
    } else if (session_count < (int)CLI_SESSIONS) {
        sessions[session_count] = session;
        session_count = session_count + 1;
    }
}
