/* Interface of the compiled network: no runtime, no allocation after opening. docs/c-interface.md has a program.
 *
 * The shared library is libsqueezeedge.so; the archive libsqueezeedge.a is the same, linked with -pthread -lm.
 * Every call needs at most 32 KiB of the calling thread's stack. */
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The same for all networks. */
#ifndef SQUEEZEEDGE_API_VERSION
/* Of this interface; a larger number has other functions or other arguments. */
#define SQUEEZEEDGE_API_VERSION 1

/* What functions return: SQUEEZEEDGE_OK, or after a failure, which squeezeedge_error describes, a negative code. */
enum {
    SQUEEZEEDGE_OK = 0,
    SQUEEZEEDGE_NOT_OPEN = -1,
    SQUEEZEEDGE_BAD_ARGUMENT = -2,
    SQUEEZEEDGE_UNSUPPORTED_PROCESSOR = -3,
    SQUEEZEEDGE_NO_MEMORY = -4,
    SQUEEZEEDGE_NO_THREADS = -5, /* the system gives no further ones */
    SQUEEZEEDGE_FAILED = -6      /* a kernel failed: the library is damaged */
};

/* How the bytes of a pixel lie, 8 bits a channel; the fourth one is not read. */
enum { SQUEEZEEDGE_RGB, SQUEEZEEDGE_BGR, SQUEEZEEDGE_RGBA, SQUEEZEEDGE_BGRA, SQUEEZEEDGE_GRAY };
#elif SQUEEZEEDGE_API_VERSION != 1
#error "networks of different versions of squeezeedge: compile them with the same one"
#endif

/* SQUEEZEEDGE_API_VERSION of the library. */
int32_t squeezeedge_api_version(void);

/* Height, width, channels of the uint8 RGB image, the number of classes, and of the kernels that a run calls. */
extern const int32_t squeezeedge_input[3];
extern const int32_t squeezeedge_classes;
extern const int32_t squeezeedge_kernels;

/* Start threads, 1 to 64, the caller's included, but no more than there are processors for this process; an open
 * network is closed first. Allocates the memory of all later calls.
 * `isa`: the instruction set whose kernels run, by its name; NULL: the best one in the library that the processor has.
 * A refusal (SQUEEZEEDGE_BAD_ARGUMENT, SQUEEZEEDGE_UNSUPPORTED_PROCESSOR) leaves the network as it was.
 * A forked child's first call starts threads of its own; the library's last unloading stops them. */
int32_t squeezeedge_open(int32_t threads, const char *isa);

/* Of the open network: the instruction set whose kernels run, and the number of threads; NULL and 0 if none is open. */
const char *squeezeedge_isa(void);
int32_t squeezeedge_threads(void);

/* Classify images: uint8 [count][height][width][3] in, float [count][classes] out: the class with the largest logit is
 * an image's answer. As many images as there are threads, or a multiple of it, are computed by one thread each, the
 * others by all threads together. Calls from several threads take turns. */
int32_t squeezeedge_logits(const uint8_t *images, int32_t count, float *logits);

/* Make the network's image, uint8 [height][width][3], of one of any size, as the network was trained: scaled and
 * cropped to the same bits as in Python. From each row of pixels to the next one there are `stride` bytes, negative
 * where the last row lies first. `scratch`: squeezeedge_scratch(width, height) bytes. It computes in the calling thread
 * and takes no turns. */
int32_t squeezeedge_preprocess(const uint8_t *pixels, int32_t width, int32_t height, int64_t stride, int32_t format,
                               void *scratch, uint8_t *image);

/* Bytes of scratch memory for an image of this size; a negative code if such an image is refused. */
int64_t squeezeedge_scratch(int32_t width, int32_t height);

/* The best of all logits of an image: writes the indices of `count` classes, best first (of equal ones the first), or
 * of all if these are fewer, and their softmax probabilities, 0 to 1, unless `probabilities` is NULL; not over the
 * logits. Returns how many were written, or a negative code, as where a logit is NaN or infinite (-infinity excludes a
 * class). */
int32_t squeezeedge_top(const float *logits, int32_t count, int32_t *classes, float *probabilities);

/* Name of a class in UTF-8; NULL if it is not known. */
const char *squeezeedge_label(int32_t index);

/* As squeezeedge_logits, but int32 [count][classes]: the integers that are the same on every device.
 * DO NOT COMPARE THEM BETWEEN CLASSES: each class has a scale of its own, and the largest sum is often not the answer.
 * logit[c] = (float)sums[c] * squeezeedge_scale()[c]. */
int32_t squeezeedge_run(const uint8_t *images, int32_t count, int32_t *sums);

/* As squeezeedge_run of one image, to find the layer in which a device differs from another: after kernel number
 * `kernel`, from 0, `seen` gets what it left in memory, valid until it returns, and `user`. It must not call the
 * network. The artifact's trace.json says which kernel makes which tensor, and where in these bytes its values lie. */
int32_t squeezeedge_trace(const uint8_t *image, int32_t *sums,
                          void (*seen)(void *user, int32_t kernel, const void *bytes, int64_t size), void *user);

/* As squeezeedge_run of one image, and tells where its time goes: writes the clock (CLOCK_MONOTONIC, in nanoseconds)
 * before the first kernel and after each one, int64 [kernels + 1]. The other calls read no clock. */
int32_t squeezeedge_profile(const uint8_t *image, int32_t *sums, int64_t *times);

/* float [classes]: what a class's sum is multiplied by to get its logit. */
const float *squeezeedge_scale(void);

/* What the calling thread's last call that failed said; empty after one that did not. */
const char *squeezeedge_error(void);

/* Stop the threads and give the memory back. */
void squeezeedge_close(void);

#ifdef __cplusplus
}
#endif
