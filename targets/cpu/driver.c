/* Runs the planned kernel calls (plan.h, generated) and is the little of TVM's runtime that the kernels ask for.
   The names squeezeedge_* are short names of the generated squeezeedge.h: what is compiled has the network's prefix. */
#define _GNU_SOURCE
#undef _TIME_BITS /* no program sees a time of this file, and older C libraries have only one kind of them */
#include "processor.h"
#include "squeezeedge.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <dlpack/dlpack.h>
#include <tvm/ffi/c_api.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the weights are little-endian: compile for a little-endian processor"
#endif

typedef int (*Kernel)(void *, const TVMFFIAny *, int32_t, TVMFFIAny *);
typedef enum { INPUT, OUTPUT, WORKSPACE, CONSTANTS } Place;
typedef struct {
    Place place;
    size_t offset;
    int64_t size;
    DLDataType dtype;
} Buffer;
typedef struct {
    Kernel kernel;
    int32_t first, count; /* of its buffers */
} Call;

#include "plan.h"

/* ---- weights, embedded by the assembler ---- */
__asm__(".section .rodata\n.balign 64\nsqueezeedge_constants:\n.incbin \"" CONSTANTS_FILE "\"\n.previous\n");
extern const uint8_t squeezeedge_constants[];

static _Alignas(64) uint8_t workspace[WORKSPACE_BYTES];
static _Alignas(64) uint8_t input[INPUT_BYTES];
static _Alignas(64) int32_t output[OUTPUT_SIZE];

static DLTensor tensors[BUFFERS];
static int64_t shapes[BUFFERS];
static int64_t strides[BUFFERS];
static TVMFFIAny arguments[BUFFERS];

/* ---- threads: workers spin between the kernels of an image and sleep between images ---- */
enum { MAX_THREADS = 64, SPINS = 2000 };
typedef struct {
    void *sync_handle;
    int32_t num_task;
} ParallelEnv; /* TVM's TVMParallelGroupEnv */
typedef int (*Task)(int, ParallelEnv *, void *);

static struct {
    int32_t threads; /* the caller's included; 0: the network is not open */
    int32_t running; /* of these; after a fork only the caller's */
    pthread_t workers[MAX_THREADS];
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    atomic_uint generation; /* counts launches */
    atomic_int pending, sleeping, failed, stop;
    Task task;
    void *data;
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void pause_thread(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || (defined(__ARM_ARCH) && __ARM_ARCH >= 7)
    __asm__ volatile("yield");
#endif
}

static void run_task(int index) {
    ParallelEnv env = {NULL, pool.running};
    if (pool.task(index, &env, pool.data) != 0) atomic_store(&pool.failed, 1);
}

static void *work(void *argument) {
    int index = (int)(intptr_t)argument;
    unsigned seen = 0;
    for (;;) {
        for (int spin = 0; spin < SPINS && atomic_load(&pool.generation) == seen; spin++) pause_thread();
        if (atomic_load(&pool.generation) == seen) {
            pthread_mutex_lock(&pool.mutex);
            atomic_fetch_add(&pool.sleeping, 1);
            while (atomic_load(&pool.generation) == seen) pthread_cond_wait(&pool.wake, &pool.mutex);
            atomic_fetch_sub(&pool.sleeping, 1);
            pthread_mutex_unlock(&pool.mutex);
        }
        seen++;
        if (atomic_load(&pool.stop)) return NULL;
        run_task(index);
        atomic_fetch_sub(&pool.pending, 1);
    }
}

static void launch(void) {
    atomic_store(&pool.pending, pool.running - 1);
    atomic_fetch_add(&pool.generation, 1);
    if (atomic_load(&pool.sleeping) > 0) {
        pthread_mutex_lock(&pool.mutex);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.mutex);
    }
}

static int parallel_launch(Task task, void *data, int tasks) {
    (void)tasks;
    pool.task = task;
    pool.data = data;
    atomic_store(&pool.failed, 0);
    if (pool.running > 1) launch();
    run_task(0);
    for (int spin = 0; atomic_load(&pool.pending) > 0; spin++) {
        if (spin < SPINS) pause_thread();
        else sched_yield(); /* a worker has no processor */
    }
    return atomic_load(&pool.failed);
}

/* What this thread's last failing call said. */
static _Thread_local char error_text[256];

static void append_error(const char *text) {
    size_t used = strlen(error_text);
    if (text != NULL) snprintf(error_text + used, sizeof error_text - used, "%s", text);
}
void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message);
void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) {
    (void)kind;
    error_text[0] = 0;
    append_error(message);
}
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count);
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
    (void)kind;
    error_text[0] = 0;
    for (int32_t i = 0; i < count; i++) append_error(parts[i]);
}

/* Kernels keep their scratch on the stack; one that asks for memory fails. */
static void *alloc_workspace(int type, int device, uint64_t bytes, int code, int bits) {
    (void)type, (void)device, (void)bytes, (void)code, (void)bits;
    TVMFFIErrorSetRaisedFromCStr("RuntimeError", "a kernel asked for memory");
    return NULL;
}
static int free_workspace(int type, int device, void *pointer) {
    (void)type, (void)device, (void)pointer;
    return -1;
}
/* The kernels call through these. Theirs are weak; a TVM in the same process has others of the same names. */
#define OWN __attribute__((visibility("hidden")))
OWN void *__TVMBackendParallelLaunch = (void *)parallel_launch;
OWN void *__TVMBackendAllocWorkspace = (void *)alloc_workspace;
OWN void *__TVMBackendFreeWorkspace = (void *)free_workspace;

/* What the processor must have: exactly what the kernels may use. */
static const char *missing_feature(void) {
    const char *missing = NULL;
    for (int i = 0; needs[i] != NULL && missing == NULL; i++) missing = needs[i]();
    return missing;
}

/* ---- the interface ---- */
#define EXPORT __attribute__((visibility("default")))
EXPORT const int32_t squeezeedge_input[3] = {INPUT_HEIGHT, INPUT_WIDTH, INPUT_CHANNELS};
EXPORT const int32_t squeezeedge_classes = CLASSES;
EXPORT const int32_t squeezeedge_kernels = CALLS;

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static void stop_workers(void) {
    if (pool.running > 1) {
        atomic_store(&pool.stop, 1);
        launch();
        for (int32_t i = 1; i < pool.running; i++) pthread_join(pool.workers[i], NULL);
    }
    pool.running = 0;
    atomic_store(&pool.pending, 0); /* workers that stop do not count down */
}

static const char *start_workers(int32_t threads) {
    atomic_store(&pool.stop, 0);
    atomic_store(&pool.generation, 0);
    sigset_t all, before;
    sigfillset(&all); /* the program's threads take its signals: workers would take what these block */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pool.running = 1;
    int failed = 0;
    while (pool.running < threads && !failed) {
        void *index = (void *)(intptr_t)pool.running;
        failed = pthread_create(&pool.workers[pool.running], NULL, work, index) != 0;
        pool.running += !failed;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed) return NULL;
    stop_workers();
    return "the system gives no further threads";
}

/* In a forked child there are no workers, and another thread may have held the locks. */
static void forget_workers(void) {
    turn = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    pool.mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    pool.wake = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    pool.running = 0;
    atomic_store(&pool.pending, 0);
    atomic_store(&pool.sleeping, 0);
}

static void close_locked(void) {
    pool.threads = 0;
    stop_workers();
}

EXPORT void squeezeedge_close(void) {
    pthread_mutex_lock(&turn);
    close_locked();
    pthread_mutex_unlock(&turn);
}

/* The workers' code goes away with the library. */
__attribute__((destructor)) static void unload(void) {
    if (pthread_mutex_trylock(&turn) != 0) return; /* the program ends during a run */
    close_locked();
    pthread_mutex_unlock(&turn);
}

static void bind_buffers(void) {
    for (int i = 0; i < BUFFERS; i++) {
        uint8_t *const places[] = {input, (uint8_t *)output, workspace, (uint8_t *)squeezeedge_constants};
        shapes[i] = buffers[i].size;
        strides[i] = 1;
        tensors[i] = (DLTensor){
            .data = places[buffers[i].place] + buffers[i].offset,
            .device = {kDLCPU, 0},
            .ndim = 1,
            .dtype = buffers[i].dtype,
            .shape = &shapes[i],
            .strides = &strides[i],
        };
        arguments[i].type_index = kTVMFFIDLTensorPtr;
        arguments[i].v_ptr = &tensors[i];
    }
}

EXPORT const char *squeezeedge_open(int32_t threads) {
    static int watching_forks;
    if (threads < 1 || threads > MAX_THREADS) return "the number of threads must lie in 1..64";
    const char *failure = missing_feature();
    if (failure != NULL) return failure;
    pthread_mutex_lock(&turn);
    close_locked();
    bind_buffers();
    if (!watching_forks && pthread_atfork(NULL, NULL, forget_workers) != 0) failure = "out of memory";
    else watching_forks = 1;
    if (failure == NULL) failure = start_workers(threads);
    if (failure == NULL) pool.threads = threads;
    pthread_mutex_unlock(&turn);
    return failure;
}

EXPORT const char *squeezeedge_error(void) { return error_text; }
EXPORT const float *squeezeedge_scale(void) { return class_scale; }

EXPORT const char *squeezeedge_label(int32_t index) {
#ifdef LABELS
    if (index >= 0 && index < CLASSES) return class_labels[index];
#endif
    (void)index;
    return NULL;
}

static int32_t fail(const char *text) {
    error_text[0] = 0;
    append_error(text);
    return -1;
}

typedef void (*Seen)(void *, int32_t, const void *, int64_t);

/* Leaves the class sums in `output`; `seen` gets what every kernel leaves, unless it is NULL. */
static int32_t infer_locked(const uint8_t *image, const void *result, Seen seen, void *user) {
    if (image == NULL || result == NULL) return fail("no image, or no room for the result: NULL");
    if (pool.threads == 0) return fail("the network is not open");
    const char *failure = pool.running == 0 ? start_workers(pool.threads) : NULL; /* the process was forked */
    if (failure != NULL) return fail(failure);
    error_text[0] = 0;
    memcpy(input, image, INPUT_BYTES);
    for (int i = 0; i < CALLS; i++) {
        TVMFFIAny returned = {0};
        if (calls[i].kernel(NULL, &arguments[calls[i].first], calls[i].count, &returned) != 0)
            return error_text[0] == 0 ? fail("a kernel failed") : -1;
        const int made = calls[i].first + calls[i].count - 1;
        if (seen != NULL) seen(user, i, tensors[made].data, buffers[made].size * buffers[made].dtype.bits / 8);
    }
    return 0;
}

EXPORT int32_t squeezeedge_run(const uint8_t *image, int32_t *sums) {
    pthread_mutex_lock(&turn);
    int32_t failed = infer_locked(image, sums, NULL, NULL);
    if (!failed) memcpy(sums, output, CLASSES * sizeof(int32_t));
    pthread_mutex_unlock(&turn);
    return failed;
}

EXPORT int32_t squeezeedge_trace(const uint8_t *image, int32_t *sums, Seen seen, void *user) {
    pthread_mutex_lock(&turn);
    int32_t failed = infer_locked(image, sums, seen, user);
    if (!failed) memcpy(sums, output, CLASSES * sizeof(int32_t));
    pthread_mutex_unlock(&turn);
    return failed;
}

static int64_t nanoseconds(void) {
    struct timespec now = {0, 0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return INT64_C(1000000000) * now.tv_sec + now.tv_nsec;
}
static void stamp(void *times, int32_t kernel, const void *bytes, int64_t size) {
    (void)bytes, (void)size;
    ((int64_t *)times)[kernel + 1] = nanoseconds();
}

EXPORT int32_t squeezeedge_profile(const uint8_t *image, int32_t *sums, int64_t *times) {
    if (times == NULL) return fail("no room for the times: NULL");
    pthread_mutex_lock(&turn);
    times[0] = nanoseconds();
    int32_t failed = infer_locked(image, sums, stamp, times);
    if (!failed) memcpy(sums, output, CLASSES * sizeof(int32_t));
    pthread_mutex_unlock(&turn);
    return failed;
}

EXPORT int32_t squeezeedge_logits(const uint8_t *image, float *logits) {
    pthread_mutex_lock(&turn);
    int32_t failed = infer_locked(image, logits, NULL, NULL);
    for (int32_t c = 0; c < CLASSES && !failed; c++) {
        volatile float sum = (float)output[c]; /* rounded, also where registers hold more than 32 bits */
        logits[c] = sum * class_scale[c];
    }
    pthread_mutex_unlock(&turn);
    return failed;
}

/* The best class behind `last` in the ranking; of all classes, if that is negative. -1: there is none. */
static int32_t next_best(const float *logits, int32_t last) {
    int32_t best = -1;
    for (int32_t c = 0; c < CLASSES; c++) {
        int behind = last < 0 || logits[c] < logits[last] || (logits[c] == logits[last] && c > last);
        if (behind && (best < 0 || logits[c] > logits[best])) best = c;
    }
    return best;
}

EXPORT int32_t squeezeedge_top(const float *logits, int32_t count, int32_t *classes, float *probabilities) {
    if (logits == NULL || classes == NULL || count < 0)
        return fail("no logits or no room for classes: NULL, or a negative count");
    uintptr_t from = (uintptr_t)logits, to = (uintptr_t)probabilities, room = count < CLASSES ? count : CLASSES;
    if (to != 0 && to < from + CLASSES * sizeof *logits && from < to + room * sizeof *probabilities)
        return fail("the probabilities would overwrite the logits; give them memory of their own");
    int32_t first = next_best(logits, -1), found = 0;
    double total = 0;
    for (int32_t c = 0; c < CLASSES; c++) total += exp((double)logits[c] - logits[first]);
    if (!(total >= 1)) return fail("a logit is NaN or infinite"); /* or all are -infinity */
    for (int32_t c = first; c >= 0 && found < count; c = next_best(logits, c)) classes[found++] = c;
    for (int32_t i = 0; i < found && probabilities != NULL; i++)
        probabilities[i] = (float)(exp((double)logits[classes[i]] - logits[first]) / total);
    error_text[0] = 0;
    return found;
}
