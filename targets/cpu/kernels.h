/* The kernels of a network and how one image goes through them. It needs neither threads nor a C library, so that
   another driver can include it, too. What the kernels call is the driver's: __TVMBackendParallelLaunch and the like. */
#pragma once
#include "preprocess.h"
#include "processor.h"

#include <stddef.h>
#include <stdint.h>

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
    int32_t work;         /* microseconds of one thread, roughly */
} Call;
/* The network for one instruction set. */
typedef struct {
    const char *isa;
    const Missing *needs; /* NULL behind the last one */
    const Buffer *buffers;
    const Call *calls;
    int32_t buffer_count;
    int32_t work; /* of all calls */
    size_t workspace_bytes;
} Variant;

extern const uint8_t squeezeedge_constants[];

#include "plan.h"

/* What one image at a time goes through; behind it lie the variant's `workspace_bytes`. */
typedef struct {
    _Alignas(64) int32_t output[OUTPUT_SIZE];
    DLTensor tensors[MOST_BUFFERS];
    TVMFFIAny arguments[MOST_BUFFERS];
    const Variant *variant;
} Run;

/* Gets the number of a kernel and what it left. */
typedef void (*Seen)(void *, int32_t, const void *, int64_t);

/* How many threads the kernels that are called now may use; the driver's __TVMBackendParallelLaunch asks. */
static int32_t crew = 1;

/* Why a processor does not run a variant; NULL: it does. */
static const char *missing_feature(const Variant *variant) {
    const char *missing = NULL;
    for (int i = 0; variant->needs[i] != NULL && missing == NULL; i++) missing = variant->needs[i]();
    return missing;
}

/* Threads, at most so many, of which each has so much work that calling it pays. */
static int32_t useful_threads(int32_t threads, int32_t work) {
    enum { LEAST_WORK = 8 };
    return work < 2 * LEAST_WORK ? 1 : work / LEAST_WORK < threads ? work / LEAST_WORK : threads;
}

/* Make a run ready, which is aligned to 64 bytes. */
static void bind_run(Run *run, const Variant *variant, uint8_t *workspace) {
    static int64_t stride = 1;
    run->variant = variant;
    for (int32_t i = 0; i < variant->buffer_count; i++) {
        const Buffer *buffer = &variant->buffers[i];
        uint8_t *const places[] = {NULL, (uint8_t *)run->output, workspace, (uint8_t *)squeezeedge_constants};
        run->tensors[i] = (DLTensor){
            .data = buffer->place == INPUT ? NULL : places[buffer->place] + buffer->offset,
            .device = {kDLCPU, 0},
            .ndim = 1,
            .dtype = buffer->dtype,
            .shape = (int64_t *)&buffer->size, /* nobody writes it */
            .strides = &stride,
        };
        run->arguments[i] = (TVMFFIAny){.type_index = kTVMFFIDLTensorPtr, .v_ptr = &run->tensors[i]};
    }
}

/* Leaves an image's class sums in `output`; `seen` gets what every kernel leaves, unless it is NULL.
   With one thread, many runs may go on at once. Returns 0, or what a kernel that failed returns. */
static int run_kernels(Run *run, const uint8_t *image, int32_t threads, Seen seen, void *user) {
    const Variant *variant = run->variant;
    for (int32_t i = 0; i < variant->buffer_count; i++)
        if (variant->buffers[i].place == INPUT) run->tensors[i].data = (void *)image; /* nobody writes it, either */
    for (int32_t i = 0; i < CALLS; i++) {
        const Call *call = &variant->calls[i];
        TVMFFIAny returned = {0};
        if (threads > 1) crew = useful_threads(threads, call->work);
        const int failed = call->kernel(NULL, &run->arguments[call->first], call->count, &returned);
        if (failed) return failed;
        const int32_t made = call->first + call->count - 1;
        const Buffer *buffer = &variant->buffers[made];
        if (seen != NULL) seen(user, i, run->tensors[made].data, buffer->size * buffer->dtype.bits / 8);
    }
    return 0;
}
