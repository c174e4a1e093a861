/* Not NVIDIA's driver: a fake of the part of it that run.py uses, for tests without a GPU.
 *
 * Kernels are their loop forms, compiled for this processor (kernels.h, generated: symbol, launch and parameters of
 * each). Work on a stream waits until that is synchronized, so a missing synchronization gives wrong sums; memory is
 * checked: pointers must lie in live allocations, asynchronous copies need pinned memory, all must be freed at the end.
 *
 * Environment: FAKE_CUDA_INIT, FAKE_CUDA_DEVICES, FAKE_CUDA_CAPABILITY (as 90), FAKE_CUDA_INTEGRATED (0 or 1),
 * FAKE_CUDA_LOAD (result of loading a module), FAKE_CUDA_TRACE (file to which every call is written).
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dlpack/dlpack.h>
#include <tvm/ffi/c_api.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, NOT_INITIALIZED = 3, INVALID_IMAGE = 200, ILLEGAL_ADDRESS = 700, NOT_FOUND = 500 };
enum { MOST_PARAMETERS = 16, MOST_ALLOCATIONS = 64, MOST_OPERATIONS = 4096 };

typedef int (*Function)(void *, const TVMFFIAny *, int32_t, TVMFFIAny *);
typedef struct {
    int position;   /* among the loop form's parameters */
    int64_t size;   /* elements of one image */
    DLDataType dtype;
    int batched;    /* whether each image has its own */
} Parameter;
typedef struct {
    const char *name;
    Function function;
    unsigned blocks, threads;
    int count;
    Parameter parameters[MOST_PARAMETERS]; /* in the order of the CUDA kernel's signature */
} Kernel;

#include "kernels.h"

typedef struct {
    enum { LAUNCH, COPY, CLEAR, RECORD } kind;
    const Kernel *kernel;
    unsigned images;
    uint8_t *pointers[MOST_PARAMETERS];
    void *to;
    const void *from;
    size_t bytes;
    float *event;
} Operation;
typedef struct {
    int count, capturing;
    Operation *operations;
} List; /* a stream or a graph */

static struct {
    uint8_t *start;
    size_t bytes;
    int pinned;
} allocations[MOST_ALLOCATIONS];
static int initialized, objects;
static float clock_ms;
static void *current;

void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) {
    fprintf(stderr, "fake driver: %s: %s\n", kind, message);
}
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
    for (int i = 0; i < count; i++) TVMFFIErrorSetRaisedFromCStr(kind, parts[i]);
}

static int setting(const char *name, int otherwise) {
    const char *value = getenv(name);
    return value ? atoi(value) : otherwise;
}

static void trace(const char *call, const char *detail, long number) {
    const char *path = getenv("FAKE_CUDA_TRACE");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!file) return;
    fprintf(file, "%s %s %ld\n", call, detail, number);
    fclose(file);
}

static int allocate(void **pointer, size_t bytes, int pinned) {
    for (int i = 0; i < MOST_ALLOCATIONS; i++) {
        if (allocations[i].start) continue;
        allocations[i].start = aligned_alloc(256, (bytes + 255) / 256 * 256);
        memset(allocations[i].start, 0xAB, bytes);
        allocations[i].bytes = bytes;
        allocations[i].pinned = pinned;
        *pointer = allocations[i].start;
        return SUCCESS;
    }
    return 2;
}

static int release(void *pointer, int pinned) {
    for (int i = 0; i < MOST_ALLOCATIONS; i++) {
        if (allocations[i].start != pointer || !pointer || allocations[i].pinned != pinned) continue;
        free(allocations[i].start);
        allocations[i].start = NULL;
        return SUCCESS;
    }
    return INVALID_VALUE;
}

static int valid(const void *pointer, size_t bytes, int pinned) {
    const uint8_t *p = pointer;
    for (int i = 0; i < MOST_ALLOCATIONS; i++)
        if (allocations[i].start && allocations[i].pinned == pinned && p >= allocations[i].start &&
            p + bytes <= allocations[i].start + allocations[i].bytes)
            return 1;
    return 0;
}

static int launch(const Operation *operation) {
    const Kernel *kernel = operation->kernel;
    for (unsigned image = 0; image < operation->images; image++) {
        TVMFFIAny arguments[MOST_PARAMETERS] = {0}, result = {0};
        DLTensor tensors[MOST_PARAMETERS];
        int64_t stride = 1;
        uint8_t *out = NULL, *held = NULL;
        size_t out_bytes = 0;
        for (int i = 0; i < kernel->count; i++) {
            const Parameter *parameter = &kernel->parameters[i];
            size_t bytes = (size_t)parameter->size * parameter->dtype.bits / 8;
            uint8_t *data = operation->pointers[i] + (parameter->batched ? image * bytes : 0);
            if (!valid(data, bytes, 0)) return ILLEGAL_ADDRESS;
            uint8_t *copy = aligned_alloc(64, (bytes + 63) / 64 * 64); /* TVM's alignment, not CUDA's */
            memcpy(copy, data, bytes);
            tensors[i] = (DLTensor){copy, {kDLCPU, 0}, 1, parameter->dtype, (int64_t *)&parameter->size, &stride, 0};
            arguments[parameter->position].type_index = kTVMFFIDLTensorPtr;
            arguments[parameter->position].v_ptr = &tensors[i];
            if (parameter->position == kernel->count - 1) out = data, held = copy, out_bytes = bytes;
        }
        if (kernel->function(NULL, arguments, kernel->count, &result)) return 719;
        memcpy(out, held, out_bytes);
        for (int i = 0; i < kernel->count; i++) free(tensors[i].data);
    }
    clock_ms += 1;
    return SUCCESS;
}

static int run(List *list) {
    int code = SUCCESS;
    for (int i = 0; i < list->count && !code; i++) {
        Operation *operation = &list->operations[i];
        if (operation->kind == LAUNCH) code = launch(operation);
        if (operation->kind == COPY) memcpy(operation->to, operation->from, operation->bytes);
        if (operation->kind == CLEAR) memset(operation->to, 0, operation->bytes);
        if (operation->kind == RECORD) *operation->event = clock_ms;
    }
    list->count = 0;
    return code;
}

static int append(List *list, Operation operation) {
    if (!current || list->count == MOST_OPERATIONS) return INVALID_VALUE;
    list->operations[list->count++] = operation;
    return SUCCESS;
}

static List *new_list(void) {
    List *list = calloc(1, sizeof *list);
    list->operations = calloc(MOST_OPERATIONS, sizeof *list->operations);
    objects++;
    return list;
}

static int delete_list(List *list) {
    free(list->operations);
    free(list);
    objects--;
    return SUCCESS;
}

int cuInit(unsigned flags) {
    trace("cuInit", "", flags);
    initialized = !setting("FAKE_CUDA_INIT", 0);
    return setting("FAKE_CUDA_INIT", 0);
}
int cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
int cuGetErrorString(int code, const char **text) {
    if (code == 9999) return INVALID_VALUE;
    return *text = code == 2 ? "out of memory" : "fake error", SUCCESS;
}
int cuDeviceGetCount(int *count) {
    if (!initialized) return NOT_INITIALIZED;
    return *count = setting("FAKE_CUDA_DEVICES", 1), SUCCESS;
}
int cuDeviceGet(int *device, int number) { return *device = number, SUCCESS; }
int cuDeviceGetName(char *name, int bytes, int device) {
    snprintf(name, (size_t)bytes, "fake GPU %d (this processor)", device);
    return SUCCESS;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int capability = setting("FAKE_CUDA_CAPABILITY", 90);
    if (device || (attribute != 75 && attribute != 76 && attribute != 18)) return INVALID_VALUE;
    if (attribute == 18) return *value = setting("FAKE_CUDA_INTEGRATED", 0), SUCCESS;
    return *value = attribute == 75 ? capability / 10 : capability % 10, SUCCESS;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
    trace("cuDevicePrimaryCtxRetain", "", device);
    return *context = &objects, SUCCESS;
}
int cuDevicePrimaryCtxRelease_v2(int device) {
    int left = objects;
    for (int i = 0; i < MOST_ALLOCATIONS; i++) left += allocations[i].start != NULL;
    trace("cuDevicePrimaryCtxRelease", "leaks", left);
    return device ? INVALID_VALUE : SUCCESS;
}
int cuCtxSynchronize(void) { return current ? SUCCESS : INVALID_VALUE; }
int cuCtxSetCurrent(void *context) { return current = context, SUCCESS; }

int cuModuleLoadData(void **module, const void *image) {
    int code = setting("FAKE_CUDA_LOAD", 0);
    if (code || !current) return code ? code : INVALID_VALUE;
    int ptx = strstr(image, ".entry") != NULL;
    trace("cuModuleLoadData", ptx ? "ptx" : "cubin", 0);
    if (!ptx && memcmp(image, "\177ELF", 4)) return INVALID_IMAGE;
    objects++;
    return *module = &objects, SUCCESS;
}
int cuModuleUnload(void *module) {
    objects--;
    return module == &objects ? SUCCESS : INVALID_VALUE;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
        if (module && !strcmp(kernels[i].name, name)) return *function = (void *)&kernels[i], SUCCESS;
    return NOT_FOUND;
}

int cuMemAlloc_v2(uint64_t *pointer, size_t bytes) {
    void *memory = NULL;
    int code = allocate(&memory, bytes, 0);
    *pointer = (uint64_t)(uintptr_t)memory;
    trace("cuMemAlloc", "", (long)bytes);
    return code;
}
int cuMemFree_v2(uint64_t pointer) { return release((void *)(uintptr_t)pointer, 0); }
int cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags) {
    trace("cuMemHostAlloc", "", (long)bytes);
    return flags ? INVALID_VALUE : allocate(pointer, bytes, 1);
}
int cuMemFreeHost(void *pointer) { return release(pointer, 1); }
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) {
    if (!valid((void *)(uintptr_t)to, bytes, 0)) return ILLEGAL_ADDRESS;
    memcpy((void *)(uintptr_t)to, from, bytes);
    return SUCCESS;
}
int cuMemsetD32Async(uint64_t to, unsigned value, size_t count, void *stream) {
    if (value || !valid((void *)(uintptr_t)to, 4 * count, 0)) return ILLEGAL_ADDRESS;
    return append(stream, (Operation){.kind = CLEAR, .to = (void *)(uintptr_t)to, .bytes = 4 * count});
}
static int copy(void *to, const void *from, size_t bytes, int to_host, List *stream) {
    if (!valid(to, bytes, to_host) || !valid(from, bytes, !to_host)) return ILLEGAL_ADDRESS;
    if (stream->capturing) return INVALID_VALUE;
    return append(stream, (Operation){.kind = COPY, .to = to, .from = from, .bytes = bytes});
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
    trace("cuMemcpyHtoDAsync", "", (long)bytes);
    return copy((void *)(uintptr_t)to, from, bytes, 0, stream);
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
    trace("cuMemcpyDtoHAsync", "", (long)bytes);
    return copy(to, (void *)(uintptr_t)from, bytes, 1, stream);
}

int cuStreamCreate(void **stream, unsigned flags) {
    trace("cuStreamCreate", "", flags);
    return *stream = new_list(), SUCCESS;
}
int cuStreamDestroy_v2(void *stream) { return delete_list(stream); }
int cuStreamSynchronize(void *stream) {
    trace("cuStreamSynchronize", "", 0);
    return ((List *)stream)->capturing ? 900 : run(stream);
}
int cuStreamBeginCapture_v2(void *stream, int mode) {
    trace("cuStreamBeginCapture", "", mode);
    List *list = stream;
    if (list->count) return INVALID_VALUE;
    return list->capturing = 1, SUCCESS;
}
int cuStreamEndCapture(void *stream, void **graph) {
    List *list = stream, *made = new_list();
    trace("cuStreamEndCapture", "", list->count);
    if (!list->capturing) return INVALID_VALUE;
    memcpy(made->operations, list->operations, sizeof *made->operations * (size_t)list->count);
    made->count = list->count;
    list->count = list->capturing = 0;
    return *graph = made, SUCCESS;
}
int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) {
    List *made = new_list(), *list = graph;
    memcpy(made->operations, list->operations, sizeof *made->operations * (size_t)list->count);
    made->count = list->count;
    return *executable = made, flags ? INVALID_VALUE : SUCCESS;
}
int cuGraphLaunch(void *executable, void *stream) {
    trace("cuGraphLaunch", "", 0);
    List *list = executable;
    int code = SUCCESS;
    for (int i = 0; i < list->count && !code; i++) code = append(stream, list->operations[i]);
    return code;
}
int cuGraphExecDestroy(void *executable) { return delete_list(executable); }
int cuGraphDestroy(void *graph) { return delete_list(graph); }

int cuLaunchKernel(const Kernel *kernel, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned threads_y,
                   unsigned threads_z, unsigned shared, void *stream, void **parameters, void **extra) {
    trace("cuLaunchKernel", kernel->name, z);
    if (x != kernel->blocks || y != 1 || !z || threads != kernel->threads || threads_y != 1 || threads_z != 1)
        return INVALID_VALUE;
    if (shared || extra) return INVALID_VALUE;
    Operation operation = {.kind = LAUNCH, .kernel = kernel, .images = z};
    for (int i = 0; i < kernel->count; i++) operation.pointers[i] = (uint8_t *)(uintptr_t) * (uint64_t *)parameters[i];
    return append(stream, operation);
}

int cuEventCreate(void **event, unsigned flags) {
    objects++;
    return *event = calloc(1, sizeof(float)), flags ? INVALID_VALUE : SUCCESS;
}
int cuEventRecord(void *event, void *stream) { return append(stream, (Operation){.kind = RECORD, .event = event}); }
int cuEventElapsedTime(float *elapsed, void *first, void *second) {
    return *elapsed = *(float *)second - *(float *)first, SUCCESS;
}
int cuEventDestroy_v2(void *event) {
    objects--;
    free(event);
    return SUCCESS;
}
