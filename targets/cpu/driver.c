/* The interface of a compiled network: it opens and closes, chooses the kernels, and shares images among threads.
   The names squeezeedge_* are short names of the generated squeezeedge.h: what is compiled has the network's prefix. */
#define _GNU_SOURCE
#undef _TIME_BITS /* no program sees a time of this file, and older C libraries have only one kind of them */
#include "squeezeedge.h"

#include "kernels.h"
#include "threads.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- weights, embedded by the assembler ---- */
__asm__(".section .rodata\n.balign 64\nsqueezeedge_constants:\n.incbin \"" CONSTANTS_FILE "\"\n.previous\n");

/* What this thread's last failing call said. */
static _Thread_local char error_text[256];

static void append_error(const char *text) {
    size_t used = strlen(error_text);
    if (text != NULL) snprintf(error_text + used, sizeof error_text - used, "%s", text);
}

static int32_t fail(int32_t code, const char *text) {
    error_text[0] = 0;
    append_error(text);
    return code;
}

/* ---- the little of TVM's runtime that the kernels ask for ---- */
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

typedef struct {
    void *sync_handle;
    int32_t num_task;
} ParallelEnv; /* TVM's TVMParallelGroupEnv */
typedef int (*Lambda)(int, ParallelEnv *, void *);
typedef struct {
    Lambda lambda;
    void *data;
} Loop;

static int run_loop(int32_t index, int32_t tasks, void *loop) {
    ParallelEnv env = {NULL, tasks};
    return ((Loop *)loop)->lambda(index, &env, ((Loop *)loop)->data);
}
static int parallel_launch(Lambda lambda, void *data, int tasks) {
    Loop loop = {lambda, data};
    (void)tasks;
    return share_tasks(crew, run_loop, &loop);
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

/* ---- the interface ---- */
#define EXPORT __attribute__((visibility("default")))
EXPORT const int32_t squeezeedge_input[3] = {INPUT_HEIGHT, INPUT_WIDTH, INPUT_CHANNELS};
EXPORT const int32_t squeezeedge_classes = CLASSES;
EXPORT const int32_t squeezeedge_kernels = CALLS;

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static struct {
    int32_t threads; /* the caller's included; 0: the network is not open */
    const Variant *variant;
    void *memory; /* of all runs */
    Run *runs[MAX_THREADS];
} network;

static void close_locked(void) {
    stop_workers();
    free(network.memory);
    network.memory = NULL;
    network.threads = 0;
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

/* In a forked child there are no workers, and another thread may have held the locks. */
static void after_fork(void) {
    turn = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    forget_workers();
}

/* The best variant that the processor has, or that of a name; NULL: there is none, and `code` and the error say why. */
static const Variant *choose_variant(const char *isa, int32_t *code) {
    const char *missing = NULL;
    for (int i = 0; i < VARIANTS; i++) {
        if (isa != NULL && strcmp(isa, variants[i].isa) != 0) continue;
        missing = missing_feature(&variants[i]);
        if (missing == NULL) return &variants[i];
    }
    *code = missing != NULL ? SQUEEZEEDGE_UNSUPPORTED_PROCESSOR : SQUEEZEEDGE_BAD_ARGUMENT;
    fail(*code, missing != NULL ? missing : "the library has no kernels for this instruction set, only for " ISAS);
    return NULL;
}

/* Memory for so many images at a time. A system with virtual memory gives the pages when they are first written. */
static int32_t make_runs(const Variant *variant, int32_t threads) {
    const size_t line = 64, each = sizeof(Run) + (variant->workspace_bytes + line - 1) / line * line;
    network.memory = calloc((size_t)threads + 1, each); /* zeros: kernels read beyond tensors, where weights are zero */
    if (network.memory == NULL) return fail(SQUEEZEEDGE_NO_MEMORY, "the system gives no memory");
    uint8_t *start = (uint8_t *)(((uintptr_t)network.memory + line - 1) / line * line);
    for (int32_t i = 0; i < threads; i++) {
        network.runs[i] = (Run *)(start + (size_t)i * each);
        bind_run(network.runs[i], variant, (uint8_t *)(network.runs[i] + 1));
    }
    return SQUEEZEEDGE_OK;
}

static int32_t start_threads(int32_t threads) {
    return start_workers(threads) == 0 ? SQUEEZEEDGE_OK
                                       : fail(SQUEEZEEDGE_NO_THREADS, "the system gives no further threads");
}

static int32_t open_locked(int32_t threads, const Variant *variant) {
    static int watching_forks;
    close_locked();
    if (!watching_forks && pthread_atfork(NULL, NULL, after_fork) != 0)
        return fail(SQUEEZEEDGE_NO_MEMORY, "the system gives no memory");
    watching_forks = 1;
    int32_t failed = make_runs(variant, threads);
    if (!failed) failed = start_threads(threads);
    network.variant = variant;
    network.threads = threads;
    if (failed) close_locked();
    return failed;
}

EXPORT int32_t squeezeedge_open(int32_t threads, const char *isa) {
    if (threads < 1 || threads > MAX_THREADS)
        return fail(SQUEEZEEDGE_BAD_ARGUMENT, "the number of threads must lie in 1..64");
    int32_t failed = SQUEEZEEDGE_OK;
    const Variant *variant = choose_variant(isa, &failed);
    if (variant == NULL) return failed;
    error_text[0] = 0;
    const int32_t most = processors();
    pthread_mutex_lock(&turn);
    failed = open_locked(threads < most ? threads : most, variant);
    pthread_mutex_unlock(&turn);
    return failed;
}

EXPORT int32_t squeezeedge_api_version(void) { return SQUEEZEEDGE_API_VERSION; }
EXPORT const char *squeezeedge_error(void) { return error_text; }
EXPORT const float *squeezeedge_scale(void) { return class_scale; }

EXPORT int32_t squeezeedge_threads(void) {
    pthread_mutex_lock(&turn);
    const int32_t threads = network.threads;
    pthread_mutex_unlock(&turn);
    return threads;
}

EXPORT const char *squeezeedge_isa(void) {
    pthread_mutex_lock(&turn);
    const char *isa = network.threads > 0 ? network.variant->isa : NULL;
    pthread_mutex_unlock(&turn);
    return isa;
}

EXPORT const char *squeezeedge_label(int32_t index) {
#ifdef LABELS
    if (index >= 0 && index < CLASSES) return class_labels[index];
#endif
    (void)index;
    return NULL;
}

/* Images and where their results go: class sums, or logits. */
typedef struct {
    const uint8_t *images;
    int32_t *sums;
    float *logits;
    int32_t shared;  /* so many of the images, the first ones, are computed by one thread each */
    atomic_int next; /* of these, nobody has taken */
} Batch;

static void put_result(const Run *run, const Batch *batch, int32_t image) {
    const size_t at = (size_t)image * CLASSES;
    if (batch->sums != NULL) memcpy(batch->sums + at, run->output, CLASSES * sizeof(int32_t));
    for (int32_t c = 0; c < CLASSES && batch->logits != NULL; c++) {
        volatile float sum = (float)run->output[c]; /* rounded, also where registers hold more than 32 bits */
        batch->logits[at + c] = sum * class_scale[c];
    }
}

static int run_image(Run *run, const Batch *batch, int32_t image, int32_t threads, Seen seen, void *user) {
    const int failed = run_kernels(run, batch->images + (size_t)image * INPUT_BYTES, threads, seen, user);
    if (!failed) put_result(run, batch, image);
    return failed;
}

/* Whole images, one after the other, until none is left. */
static int run_images(int32_t index, int32_t tasks, void *data) {
    Batch *batch = data;
    (void)tasks;
    int failed = 0, image;
    while (!failed && (image = atomic_fetch_add(&batch->next, 1)) < batch->shared)
        failed = run_image(network.runs[index], batch, image, 1, NULL, NULL);
    return failed;
}

/* As many images as keep all threads busy by one thread each, then the others by all threads. */
static int32_t infer_locked(Batch *batch, int32_t count, Seen seen, void *user) {
    const int32_t threads = network.threads;
    if (threads == 0) return fail(SQUEEZEEDGE_NOT_OPEN, "the network is not open");
    if (running_threads() == 0 && start_threads(threads) != SQUEEZEEDGE_OK) /* the process was forked */
        return SQUEEZEEDGE_NO_THREADS;
    error_text[0] = 0;
    const int64_t work = (int64_t)network.variant->work * count;
    int failed = 0;
    crew = 1;
    batch->shared = threads > 1 ? count - count % threads : 0;
    const int32_t useful = useful_threads(threads, work < INT32_MAX ? (int32_t)work : INT32_MAX);
    if (batch->shared > 0) failed = share_tasks(useful, run_images, batch);
    for (int32_t image = batch->shared; image < count && !failed; image++)
        failed = run_image(network.runs[0], batch, image, threads, seen, user);
    if (failed && error_text[0] == 0) append_error("a kernel failed");
    return failed ? SQUEEZEEDGE_FAILED : SQUEEZEEDGE_OK;
}

static int32_t infer(Batch batch, int32_t count, Seen seen, void *user) {
    const size_t largest = INPUT_BYTES > CLASSES * sizeof(int32_t) ? INPUT_BYTES : CLASSES * sizeof(int32_t);
    if (batch.images == NULL || (batch.sums == NULL && batch.logits == NULL))
        return fail(SQUEEZEEDGE_BAD_ARGUMENT, "no image, or no room for the result: NULL");
    if (count < 1 || (size_t)count > PTRDIFF_MAX / largest)
        return fail(SQUEEZEEDGE_BAD_ARGUMENT, "the number of images must be 1 or more, and memory must hold them");
    pthread_mutex_lock(&turn);
    const int32_t failed = infer_locked(&batch, count, seen, user);
    pthread_mutex_unlock(&turn);
    return failed;
}

EXPORT int32_t squeezeedge_run(const uint8_t *images, int32_t count, int32_t *sums) {
    return infer((Batch){.images = images, .sums = sums}, count, NULL, NULL);
}

EXPORT int32_t squeezeedge_logits(const uint8_t *images, int32_t count, float *logits) {
    return infer((Batch){.images = images, .logits = logits}, count, NULL, NULL);
}

EXPORT int32_t squeezeedge_trace(const uint8_t *image, int32_t *sums, Seen seen, void *user) {
    return infer((Batch){.images = image, .sums = sums}, 1, seen, user);
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
    if (times == NULL) return fail(SQUEEZEEDGE_BAD_ARGUMENT, "no room for the times: NULL");
    times[0] = nanoseconds();
    return infer((Batch){.images = image, .sums = sums}, 1, stamp, times);
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
        return fail(SQUEEZEEDGE_BAD_ARGUMENT, "no logits or no room for classes: NULL, or a negative count");
    uintptr_t from = (uintptr_t)logits, to = (uintptr_t)probabilities, room = count < CLASSES ? count : CLASSES;
    if (to != 0 && to < from + CLASSES * sizeof *logits && from < to + room * sizeof *probabilities)
        return fail(SQUEEZEEDGE_BAD_ARGUMENT, "the probabilities would overwrite the logits; give them memory of their own");
    int32_t first = next_best(logits, -1), found = 0;
    double total = 0;
    for (int32_t c = 0; c < CLASSES; c++) total += exp((double)logits[c] - logits[first]);
    if (!(total >= 1)) return fail(SQUEEZEEDGE_BAD_ARGUMENT, "a logit is NaN or infinite"); /* or all are -infinity */
    for (int32_t c = first; c >= 0 && found < count; c = next_best(logits, c)) classes[found++] = c;
    for (int32_t i = 0; i < found && probabilities != NULL; i++)
        probabilities[i] = (float)(exp((double)logits[classes[i]] - logits[first]) / total);
    error_text[0] = 0;
    return found;
}

_Static_assert(SQUEEZEEDGE_RGB == (int)RGB && SQUEEZEEDGE_BGR == (int)BGR && SQUEEZEEDGE_RGBA == (int)RGBA &&
                   SQUEEZEEDGE_BGRA == (int)BGRA && SQUEEZEEDGE_GRAY == (int)GRAY,
               "the formats of the interface");

EXPORT int64_t squeezeedge_scratch(int32_t width, int32_t height) {
    int64_t bytes = 0;
    const char *failure = preprocess_scratch(&preprocessing, width, height, &bytes);
    if (failure != NULL) return fail(SQUEEZEEDGE_BAD_ARGUMENT, failure);
    error_text[0] = 0;
    return bytes;
}

EXPORT int32_t squeezeedge_preprocess(const uint8_t *pixels, int32_t width, int32_t height, int64_t stride,
                                      int32_t format, void *scratch, uint8_t *image) {
    const char *failure = preprocess(&preprocessing, pixels, width, height, stride, (Format)format, scratch, image);
    if (failure != NULL) return fail(SQUEEZEEDGE_BAD_ARGUMENT, failure);
    error_text[0] = 0;
    return SQUEEZEEDGE_OK;
}
