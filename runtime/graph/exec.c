/* Runs a plan. Every thread walks the steps in order, waits until a step's dependencies are done, and takes tasks of it until none are
 * left: first those of its own share, which lie side by side in memory, then from the ends of the others' shares, half of what is left at a
 * time. So a thread that is not running holds up at most half of a share. A thread that waits asks for the weights it will read next, so that
 * memory does not wait with it. */
#include "graph/plan.h"

#define TASK_WEIGHT_BYTES (48u << 10) /* smallest share of a step's weights worth a task of its own */
#define TASK_ELEMENTS 4096u           /* the same for steps without weights, in output elements */
#define TASK_CONTEXT 6u               /* positions that attention reads in the time of an element of the others */
#define TASKS_PER_THREAD 16u          /* one in the layout cols with events: a task finds out anew which inputs count, and waits for the first */

static uint32_t minimum(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* Cuts a step into tasks. None when it has no rows in this evaluation. */
static void cut(const infer_plan *plan, const infer_step *step, infer_step_state *st, const infer_batch *batch)
{
    uint32_t m = infer_batch_rows(batch, step->rows);
    uint64_t elements = (uint64_t)m * step->cols * (step->attends && !batch->chunk_rows ? 1 + (batch->pos0 + batch->m) / TASK_CONTEXT : 1);
    uint64_t work = step->weight_bytes ? step->weight_bytes / TASK_WEIGHT_BYTES * m : elements / TASK_ELEMENTS;
    uint32_t most = plan->threads == 1 ? 1 : plan->threads * (step->long_tasks && plan->events ? 1 : TASKS_PER_THREAD);
    uint32_t want = work < 1 ? 1 : work < most ? (uint32_t)work : most;
    uint32_t grains = (uint32_t)infer_ceil_div(step->cols, step->grain);
    st->m = m;
    st->rows_each = m;
    st->cols_each = step->cols;
    if (m == 0) {
        st->row_tasks = st->col_tasks = st->tasks = 0;
        return;
    }
    if (step->axes & INFER_AXIS_COLUMNS) {
        uint32_t each = (uint32_t)infer_ceil_div(grains, minimum(want, grains));
        st->cols_each = each * step->grain;
    }
    st->col_tasks = (uint32_t)infer_ceil_div(step->cols, st->cols_each);
    if (step->axes & INFER_AXIS_ROWS && !step->weight_bytes && st->col_tasks < want) {
        uint32_t parts = minimum((uint32_t)infer_ceil_div(want, st->col_tasks), m);
        st->rows_each = (uint32_t)infer_ceil_div(m, parts);
    }
    st->row_tasks = (uint32_t)infer_ceil_div(m, st->rows_each);
    st->tasks = st->row_tasks * st->col_tasks;
}

typedef struct job {
    infer_plan *plan;
    const infer_batch *batch;
    uint32_t spin_ns;
    bool check; /* some weights were not checked yet */
    _Atomic uint32_t failed;
    infer_error error; /* of the first check that failed */
} job;

/* What waits for the step is ready now; what has no tasks is finished as well. */
static void finish_step(infer_plan *plan, uint32_t s)
{
    const infer_step *step = &plan->steps[s];
    bool news = false;
    for (uint32_t i = 0; i < step->successors; i++) {
        uint32_t next = plan->successors[step->first_successor + i];
        if (atomic_fetch_sub_explicit(&plan->states[next].pending, 1, memory_order_acq_rel) == 1) {
            if (plan->states[next].tasks == 0) {
                finish_step(plan, next);
                continue;
            }
            atomic_store_explicit(&plan->states[next].ready, 1, memory_order_release);
            news = true;
        }
    }
    if (news)
        infer_event_post(&plan->event);
}

/* ---- tasks ---- */

static void share_out(infer_plan *plan, uint32_t s)
{
    uint64_t tasks = plan->states[s].tasks;
    atomic_store_explicit(&plan->states[s].untaken, (uint32_t)tasks, memory_order_relaxed);
    for (uint64_t t = 0; t < plan->threads; t++)
        atomic_store_explicit(infer_step_share(plan, (uint32_t)t, s), tasks * t / plan->threads | tasks * (t + 1) / plan->threads << 32,
                              memory_order_relaxed);
}

/* Tasks *task.. of step s for the thread, side by side: how many, 0 when none is left. Half of what is left of a share at a time: few and long ones first,
 * short ones where threads have to end together (guided self-scheduling, Polychronopoulos and Kuck, 1987). */
static uint32_t take(const infer_plan *plan, uint32_t s, uint32_t thread, uint32_t *task)
{
    infer_step_state *st = &plan->states[s];
    for (uint32_t i = 0; i < plan->threads && atomic_load_explicit(&st->untaken, memory_order_relaxed); i++) {
        _Atomic uint64_t *share = infer_step_share(plan, (thread + i) % plan->threads, s);
        uint64_t left = atomic_load_explicit(share, memory_order_relaxed);
        while ((uint32_t)left < left >> 32) {
            uint32_t first = (uint32_t)left, end = (uint32_t)(left >> 32), count = st->row_tasks == 1 ? (end - first + 1) / 2 : 1;
            uint64_t rest = i == 0 ? left + count : left - ((uint64_t)count << 32);
            if (atomic_compare_exchange_weak_explicit(share, &left, rest, memory_order_relaxed, memory_order_relaxed)) {
                *task = i == 0 ? first : end - count;
                atomic_fetch_sub_explicit(&st->untaken, count, memory_order_relaxed);
                return count;
            }
        }
    }
    return 0;
}

/* Counts inputs that are 0 in the rows just quantized. */
static void count_silent(infer_plan *plan, uint32_t node, uint32_t thread, infer_region at)
{
    const infer_quantize_args *q = &plan->args[node].quantize;
    uint32_t zeros = 0;
    for (uint32_t row = at.row0; row < at.row1; row++) {
        const int8_t *codes = q->y.codes + 32 * (row * (size_t)q->y.row_groups);
        for (uint32_t i = at.col0; i < at.col1; i++)
            zeros += codes[i] == 0;
    }
    plan->silent[(size_t)thread * plan->graph.node_count + node] += zeros;
}

/* Tasks task.. of one row. */
static void run_tasks(const job *j, const infer_step *step, const infer_step_state *st, uint32_t task, uint32_t count, uint32_t thread)
{
    infer_plan *plan = j->plan;
    uint32_t row = task / st->col_tasks, col = task % st->col_tasks;
    infer_region region = {
        .row0 = row * st->rows_each,
        .row1 = minimum((row + 1) * st->rows_each, st->m),
        .col0 = col * st->cols_each,
        .col1 = minimum((col + count) * st->cols_each, step->cols),
    };
    for (uint32_t i = 0; i < step->count; i++) {
        uint32_t node = infer_step_node(plan, step, i);
        uint64_t start;
        if (atomic_load_explicit(&plan->cancel, memory_order_relaxed))
            return;
        if (!infer_node_runs(plan, node, j->batch))
            continue;
        start = plan->profile ? infer_now_ns() : 0;
        if (plan->observe && plan->graph.nodes[node].op == INFER_OP_QUANTIZE && plan->graph.nodes[node].weight.info)
            plan->observe(plan->observer, thread, node, &plan->args[node].quantize, region);
        plan->kernels[node]->fn(&plan->args[node], region);
        if (plan->profile)
            plan->node_ns[(size_t)thread * plan->graph.node_count + node] += infer_now_ns() - start;
        if (plan->events && plan->graph.nodes[node].op == INFER_OP_QUANTIZE && plan->graph.nodes[node].weight.info)
            count_silent(plan, node, thread, region);
    }
}

/* Checks weights that the step has just read, from the caches instead of memory once more, while the other threads go on. */
static void check_step(job *j, const infer_step *step)
{
    infer_plan *plan = j->plan;
    for (uint32_t i = 0; i < step->count; i++) {
        uint32_t node = infer_step_node(plan, step, i);
        const infer_node *n = &plan->graph.nodes[node];
        infer_error err;
        if (atomic_load_explicit(&plan->cancel, memory_order_relaxed))
            return;
        if (!infer_node_checked(n) || !infer_node_runs(plan, node, j->batch) || atomic_exchange(&plan->checked[node], 1))
            continue;
        if (plan->check(plan->checker, n->weight.info, &err) == INFER_OK) {
            atomic_fetch_sub(&plan->unchecked, 1);
            continue;
        }
        atomic_store(&plan->checked[node], 0);
        if (!atomic_exchange(&j->failed, 1))
            j->error = err;
        atomic_store(&plan->cancel, 1);
    }
}

static void work(void *arg, uint32_t thread)
{
    job *j = arg;
    infer_plan *plan = j->plan;
    infer_ahead ahead = {INFER_NONE, 0};
    for (uint32_t s = 0; s < plan->step_count; s++) {
        const infer_step *step = &plan->steps[s];
        infer_step_state *st = &plan->states[s];
        uint32_t task, count;
        if (st->tasks == 0)
            continue;
        if (j->spin_ns && !atomic_load_explicit(&st->ready, memory_order_acquire))
            infer_plan_read_ahead(plan, j->batch, s, thread, &ahead);
        infer_event_wait(&plan->event, &st->ready, 0, j->spin_ns);
        while ((count = take(plan, s, thread, &task)) > 0) {
            run_tasks(j, step, st, task, count, thread);
            if (atomic_fetch_sub_explicit(&st->left, count, memory_order_acq_rel) == count)
                finish_step(plan, s);
        }
        if (j->check)
            check_step(j, step);
    }
}

infer_status infer_plan_run(infer_plan *plan, infer_pool *pool, const infer_batch *wanted, infer_error *err)
{
    infer_batch run = *wanted;
    const infer_batch *batch = &run;
    job j = {.plan = plan, .batch = batch, .spin_ns = infer_pool_spin_ns(pool), .check = atomic_load(&plan->unchecked) > 0};
    uint64_t start = plan->profile ? infer_now_ns() : 0;
    bool shared = false; /* some step has work for more than one thread */
    run.chunk_rows = 0;
    if (plan->max_chunk_rows && run.m <= INFER_ATTENTION_SPLIT_ROWS && run.pos0 + run.m > INFER_ATTENTION_CHUNK)
        run.chunk_rows = plan->graph.kv_heads * (uint32_t)infer_ceil_div(run.pos0 + run.m, INFER_ATTENTION_CHUNK);
    for (size_t i = 0; i < plan->graph.node_count; i++) {
        const infer_node *n = &plan->graph.nodes[i];
        infer_ops[n->op].bind(plan, n, batch, &plan->args[i]);
    }
    for (uint32_t s = 0; s < plan->step_count; s++) {
        infer_step_state *st = &plan->states[s];
        cut(plan, &plan->steps[s], st, batch);
        shared |= st->tasks > 1;
        share_out(plan, s);
        atomic_store_explicit(&st->left, st->tasks, memory_order_relaxed);
        atomic_store_explicit(&st->pending, plan->steps[s].dependencies, memory_order_relaxed);
        atomic_store_explicit(&st->ready, plan->steps[s].dependencies == 0, memory_order_relaxed);
    }
    for (uint32_t s = 0; s < plan->step_count; s++)
        if (plan->steps[s].dependencies == 0 && plan->states[s].tasks == 0)
            finish_step(plan, s);
    if (shared)
        infer_pool_run(pool, work, &j);
    else
        work(&j, 0); /* waking the others would cost more than they could do */
    if (plan->events)
        plan->event_tokens += batch->m;
    if (plan->profile) {
        plan->eval_ns += infer_now_ns() - start;
        plan->evals++;
        plan->tokens += batch->m;
    }
    if (atomic_load(&j.failed)) {
        atomic_store(&plan->cancel, 0);
        return infer_fail(err, j.error.status, "%s", j.error.message);
    }
    if (atomic_exchange(&plan->cancel, 0))
        return infer_fail(err, INFER_ERROR_CANCELLED, "the evaluation was cancelled");
    return INFER_OK;
}
