/* Interface of the compiled network: no runtime, no allocation after opening. docs/c-interface.md has a program.
 *
 * The shared library is libsqueezeedge.so; the archive libsqueezeedge.a is the same, linked with -pthread -lm.
 * Every call needs at most 32 KiB of the calling thread's stack. */
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Height, width, channels of the uint8 RGB image, the number of classes, and of the kernels that a run calls. */
extern const int32_t squeezeedge_input[3];
extern const int32_t squeezeedge_classes;
extern const int32_t squeezeedge_kernels;

/* Start `threads` threads, 1 to 64, the caller's included; an open network is closed first.
 * Returns NULL, or the reason why this machine can't run it.
 * A forked child's first call starts threads of its own; the library's last unloading stops them. */
const char *squeezeedge_open(int32_t threads);

/* Classify one image: uint8 [height][width][3] in, float [classes] out: the class with the largest logit is the answer.
 * Calls from several threads take turns. Returns 0; -1 after a failure, which squeezeedge_error names. */
int32_t squeezeedge_logits(const uint8_t *image, float *logits);

/* The best of all logits: writes the indices of `count` classes, best first (of equal ones the first), or of all if
 * these are fewer, and their softmax probabilities, 0 to 1, unless `probabilities` is NULL; not over the logits.
 * Returns how many were written; -1 after a failure, as where a logit is NaN or infinite (-infinity excludes a class). */
int32_t squeezeedge_top(const float *logits, int32_t count, int32_t *classes, float *probabilities);

/* Name of a class in UTF-8; NULL if it is not known. */
const char *squeezeedge_label(int32_t index);

/* As squeezeedge_logits, but int32 [classes]: the integers that are the same on every device.
 * DO NOT COMPARE THEM BETWEEN CLASSES: each class has a scale of its own, and the largest sum is often not the answer.
 * logit[c] = (float)sums[c] * squeezeedge_scale()[c]. */
int32_t squeezeedge_run(const uint8_t *image, int32_t *sums);

/* As squeezeedge_run, to find the layer in which a device differs from another: after kernel number `kernel`, from 0,
 * `seen` gets what it left in memory, valid until it returns, and `user`. It must not call the network. The artifact's
 * trace.json says which kernel makes which tensor, and where in these bytes each of its values lies. */
int32_t squeezeedge_trace(const uint8_t *image, int32_t *sums,
                          void (*seen)(void *user, int32_t kernel, const void *bytes, int64_t size), void *user);

/* As squeezeedge_run, and tells where its time goes: writes the clock (CLOCK_MONOTONIC, in nanoseconds) before the first
 * kernel and after each one, int64 [kernels + 1]. The other calls read no clock. */
int32_t squeezeedge_profile(const uint8_t *image, int32_t *sums, int64_t *times);

/* float [classes]: what a class's sum is multiplied by to get its logit. */
const float *squeezeedge_scale(void);

/* What the calling thread's last call that failed said; empty after one that did not. */
const char *squeezeedge_error(void);

/* Stop the threads. */
void squeezeedge_close(void);

#ifdef __cplusplus
}
#endif
