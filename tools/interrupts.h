/* Ctrl-C and its like, in one way for the tools that run long. */
#ifndef INFER_TOOLS_INTERRUPTS_H
#define INFER_TOOLS_INTERRUPTS_H

#include <infer/infer.h>
#include <signal.h>

#define CLI_EXIT_INTERRUPTED 130 /* a tool's exit status */
#define CLI_SESSIONS 64u

/* The number of the signal that came, 0: none. */
extern volatile sig_atomic_t cli_interrupted;

/* From now on SIGINT and SIGTERM only set cli_interrupted and cancel the sessions below, so that the tool ends in good order, and no
 * temporary file stays. Another one, a second later, ends the process (at once, there may be two that mean one: timeout(1) sends it to the
 * process and to its group). */
void cli_catch_interrupts(void);
/* A session to be cancelled, up to CLI_SESSIONS of them; NULL forgets all, before they are destroyed. */
void cli_cancel_session(infer_session *session);

#endif
