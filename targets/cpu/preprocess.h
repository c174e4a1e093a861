/* An image of any size -> the network's uint8 image: scaled and cropped, the same bits as squeezeedge.calib.preprocess,
   which scales with Pillow. A function of its arguments only: no memory but the caller's, no C library but memcpy and
   memset, so it is for programs without an operating system, too.

   The weights of the filters are made with doubles in Pillow's order of operations. Compile it with -ffp-contract=off:
   a multiplication and an addition in one instruction round otherwise. */
#ifndef SQUEEZEEDGE_PREPROCESS
#define SQUEEZEEDGE_PREPROCESS

#include <stdint.h>

/* Pillow's filters. */
typedef enum { NEAREST, BOX, BILINEAR, HAMMING, BICUBIC, LANCZOS } Filter;

/* How the bytes of a pixel lie; the fourth one, opacity, is not read. The interface has the same numbers. */
typedef enum { RGB, BGR, RGBA, BGRA, GRAY } Format;

typedef struct {
    int32_t height, width; /* of the network's image, in pixels */
    int32_t resize;        /* to which the shorter side is scaled before the crop; 0: all is scaled to height x width */
    Filter filter;
    int32_t gray; /* whether the image becomes gray before it is scaled; its three channels are equal */
} Preprocessing;

/* The bytes of scratch memory that preprocess() needs for an image of this size.
   Returns NULL, or why it would refuse such an image. */
const char *preprocess_scratch(const Preprocessing *how, int32_t width, int32_t height, int64_t *bytes);

/* pixels: the first row; from each row to the next one, `stride` bytes, negative where the last row lies first.
   scratch: any address. image: uint8 [how->height][how->width][3], RGB.
   Returns NULL, or why nothing was done. */
const char *preprocess(const Preprocessing *how, const uint8_t *pixels, int32_t width, int32_t height, int64_t stride,
                       Format format, void *scratch, uint8_t *image);

#endif
