/* Interface of the compiled network: no runtime, no allocation after opening. */
#ifndef SQUEEZEEDGE_H
#define SQUEEZEEDGE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Height, width, channels of the uint8 RGB image, and the number of class sums. */
extern const int32_t squeezeedge_input[3];
extern const int32_t squeezeedge_classes;

/* Start `threads` threads, the caller's included; an open library is closed first.
 * Returns NULL, or the reason why this machine can't run it. */
const char *squeezeedge_open(int32_t threads);

/* Classify one image: uint8 [height][width][3] in, int32 [classes] out. Calls from several threads take turns.
 * Returns 0; -1 if the library is not open or a kernel failed. */
int32_t squeezeedge_run(const uint8_t *image, int32_t *sums);

/* What the last kernel that failed said. */
const char *squeezeedge_error(void);

/* Stop the threads. */
void squeezeedge_close(void);

#ifdef __cplusplus
}
#endif
#endif
