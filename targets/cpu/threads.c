/* Workers spin between the calls of an image and sleep between images. */
#define _GNU_SOURCE
#undef _TIME_BITS /* no program sees a time of this file, and older C libraries have only one kind of them */
#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

enum { SPINS = 2000 };

typedef struct {
    _Alignas(64) atomic_int open; /* its task waits for it; whoever makes this 0 does the task */
    atomic_int asleep;
    int called; /* it is to wake up; under the mutex */
    pthread_cond_t wake;
    pthread_t thread;
} Worker;

static struct {
    int32_t running;
    pthread_mutex_t mutex;
    atomic_int stop;
    atomic_int done, failed;
    /* of the present call; they stay as they are until all of its tasks are done */
    int32_t tasks;
    Task task;
    void *data;
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER};
static Worker workers[MAX_THREADS]; /* [0] is the caller */

int32_t processors(void) {
#ifdef PROCESSORS
    return PROCESSORS;
#else
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : MAX_THREADS;
#endif
}

static void pause_thread(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || (defined(__ARM_ARCH) && __ARM_ARCH >= 7)
    __asm__ volatile("yield");
#endif
}

/* Do a worker's task, unless somebody else has begun with it. */
static void do_task(int32_t index) {
    int open = 1;
    if (!atomic_compare_exchange_strong(&workers[index].open, &open, 0)) return;
    if (pool.task(index, pool.tasks, pool.data) != 0) atomic_store(&pool.failed, 1);
    atomic_fetch_add(&pool.done, 1);
}

static void sleep_until_called(Worker *worker) {
    pthread_mutex_lock(&pool.mutex);
    atomic_store(&worker->asleep, 1);
    while (!worker->called && !atomic_load(&pool.stop)) pthread_cond_wait(&worker->wake, &pool.mutex);
    worker->called = 0;
    pthread_mutex_unlock(&pool.mutex);
}

static void *work(void *argument) {
    const int32_t index = (int32_t)(intptr_t)argument;
    Worker *worker = &workers[index];
    while (!atomic_load(&pool.stop)) {
        int spin = 0;
        while (spin < SPINS && !atomic_load(&worker->open) && !atomic_load(&pool.stop)) {
            pause_thread();
            spin++;
        }
        if (spin == SPINS) sleep_until_called(worker);
        do_task(index);
    }
    return NULL;
}

static void call_worker(Worker *worker) {
    pthread_mutex_lock(&pool.mutex);
    atomic_store(&worker->asleep, 0);
    worker->called = 1;
    pthread_cond_signal(&worker->wake);
    pthread_mutex_unlock(&pool.mutex);
}

int share_tasks(int32_t tasks, Task task, void *data) {
    if (tasks == 1) return task(0, 1, data);
    pool.tasks = tasks;
    pool.task = task;
    pool.data = data;
    atomic_store(&pool.done, 0);
    atomic_store(&pool.failed, 0);
    for (int32_t i = 1; i < tasks; i++) atomic_store(&workers[i].open, 1);
    for (int32_t i = 1; i < tasks; i++)
        if (atomic_load(&workers[i].asleep)) call_worker(&workers[i]);
    const int failed = task(0, tasks, data);
    for (int32_t i = 1; i < tasks; i++) do_task(i); /* of workers that were late */
    for (int spin = 0; atomic_load(&pool.done) < tasks - 1; spin++) {
        if (spin < SPINS) pause_thread();
        else sched_yield(); /* a worker has no processor */
    }
    return failed || atomic_load(&pool.failed);
}

int32_t running_threads(void) { return pool.running; }

void stop_workers(void) {
    pthread_mutex_lock(&pool.mutex);
    atomic_store(&pool.stop, 1);
    for (int32_t i = 1; i < pool.running; i++) pthread_cond_signal(&workers[i].wake);
    pthread_mutex_unlock(&pool.mutex);
    for (int32_t i = 1; i < pool.running; i++) pthread_join(workers[i].thread, NULL);
    pool.running = 0;
}

int start_workers(int32_t threads) {
    atomic_store(&pool.stop, 0);
    for (int32_t i = 1; i < threads; i++) workers[i] = (Worker){.wake = PTHREAD_COND_INITIALIZER};
    sigset_t all, before;
    sigfillset(&all); /* the program's threads take its signals: workers would take what these block */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pool.running = 1;
    int failed = 0;
    while (pool.running < threads && !failed) {
        failed = pthread_create(&workers[pool.running].thread, NULL, work, (void *)(intptr_t)pool.running) != 0;
        pool.running += !failed;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) stop_workers();
    return failed ? -1 : 0;
}

void forget_workers(void) {
    pool.mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER; /* another thread may have held it */
    pool.running = 0;
}
