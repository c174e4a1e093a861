/* Pillow's scaling of 8-bit images (ImagingResample, and ImagingScaleAffine for NEAREST), of the crop's pixels alone:
   along the rows, then along the columns, bytes between. Each row of the source that the crop needs is scaled once, into
   a ring of as many rows as a row of the crop needs. */
#include "preprocess.h"

#include <stddef.h>

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif
#ifdef __FAST_MATH__
#error "weights are Pillow's only if doubles are rounded as written: compile without -ffast-math"
#endif

enum {
    MOST_PIXELS = 89478485, /* MAX_PIXELS of squeezeedge.calib.preprocess */
    MOST_SIDE = 1 << 24,    /* of the source: Pillow keeps its sides as floats */
    BITS = 22,              /* of the fraction of a weight */
    HALF = 1 << (BITS - 1),
    BLOCK = 64              /* values of a row that are summed together */
};

/* ---- the filters: weights at a distance in pixels, of which a longer side's are stretched ---- */
static const double supports[] = {[BOX] = 0.5, [BILINEAR] = 1.0, [HAMMING] = 1.0, [BICUBIC] = 2.0, [LANCZOS] = 3.0};
static const double pi = 3.141592653589793116, pi_rest = 1.2246467991473532e-16; /* their sum is more exact */

/* sin(x) of 0 <= x <= 3 pi, rounded to the last place or the one beside it. Pillow's is its C library's; where the two
   differ, a weight of 22 bits does only if it lies within 1e-9 of its unit from a half. */
static double sine(double x) {
    const int32_t turns = (int32_t)(x / pi + 0.5); /* pi has 50 bits: turns * pi is exact */
    const double t = (x - turns * pi) - turns * pi_rest, square = t * t;
    double rest = 0; /* of Taylor's series, in parts of the first term */
    for (int32_t n = 20; n > 0; n -= 2) rest = -square / (n * (n + 1)) * (1 + rest);
    const double sum = t + t * rest;
    return turns & 1 ? -sum : sum;
}

static double sinc(double x) {
    if (x < 0) x = -x;
    return x == 0 ? 1 : sine(x * pi) / (x * pi);
}

static double weight_at(Filter filter, double x) {
    if (filter == BOX) return x > -0.5 && x <= 0.5;
    if (filter == LANCZOS) return -3 <= x && x < 3 ? sinc(x) * sinc(x / 3) : 0;
    if (x < 0) x = -x;
    if (filter == BILINEAR) return x < 1 ? 1 - x : 0;
    if (filter == BICUBIC) {
        if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
        return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
    }
    if (x == 0) return 1; /* HAMMING */
    if (x >= 1) return 0;
    const double half = sine(x * pi * 0.5);
    return sinc(x) * (0.54f + 0.46f * (1 - 2 * half * half));
}

/* ---- one direction of the scaling ---- */
typedef struct {
    Filter filter;
    int32_t from, to; /* pixels before and after it */
    int32_t most;     /* source pixels of one pixel, at most */
    double scale, stretch, support;
    int32_t place; /* NEAREST: of a pixel, and where in the source it lies: a sum, as in Pillow */
    double at;
} Axis;

static Axis axis_of(Filter filter, int32_t from, int32_t to) {
    const double scale = (double)from / to, stretch = scale < 1 ? 1 : scale;
    Axis axis = {filter, from, to, 1, scale, stretch, 0, 0, scale * 0.5};
    if (filter != NEAREST) {
        axis.support = supports[filter] * stretch;
        const int32_t whole = (int32_t)axis.support, most = 2 * (whole + (whole < axis.support)) + 1;
        axis.most = most < from ? most : from;
    }
    return axis;
}

/* The source pixels of a pixel and their weights. Returns how many; call it for ascending places. */
static int32_t window(Axis *axis, int32_t place, int32_t *first, int32_t *weights) {
    if (axis->filter == NEAREST) {
        for (; axis->place < place; axis->place++) axis->at += axis->scale;
        *first = (int32_t)axis->at;
        weights[0] = 1 << BITS;
        return *first < axis->from; /* none: black */
    }
    const double centre = (place + 0.5) * axis->scale, inverse = 1 / axis->stretch;
    int32_t begin = (int32_t)(centre - axis->support + 0.5), end = (int32_t)(centre + axis->support + 0.5);
    if (begin < 0) begin = 0;
    if (end > axis->from) end = axis->from;
    double sum = 0;
    for (int32_t i = begin; i < end; i++) sum += weight_at(axis->filter, (i - centre + 0.5) * inverse);
    for (int32_t i = begin; i < end; i++) {
        double weight = weight_at(axis->filter, (i - centre + 0.5) * inverse);
        if (sum != 0) weight /= sum;
        weight *= 1 << BITS;
        weights[i - begin] = (int32_t)(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
    *first = begin;
    return end - begin;
}

/* A weighted sum with BITS bits of fraction, begun with a half, as a byte. */
static uint8_t byte_of(uint32_t sum) {
    const int32_t value = (int32_t)sum >> BITS;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* ---- what follows from the size of an image ---- */
typedef struct {
    Axis across, down;
    int32_t left, top; /* of the crop in the scaled image */
} Geometry;

/* Half of a number, rounded to even. */
static int32_t half_of(int32_t number) {
    const int32_t half = number / 2;
    return half + (number & half & 1);
}

static const char *geometry_of(const Preprocessing *how, int32_t width, int32_t height, Geometry *made) {
    if (width < 1 || height < 1) return "an image has at least one pixel";
    if (width > MOST_SIDE || height > MOST_SIDE || width > MOST_PIXELS / height)
        return "the image is too large: at most 89478485 pixels, 16777216 a side";
    int64_t scaled_width = how->width, scaled_height = how->height;
    if (how->resize != 0) {
        const int32_t shorter = width < height ? width : height;
        scaled_width = (int64_t)width * how->resize / shorter;
        scaled_height = (int64_t)height * how->resize / shorter;
    }
    if (scaled_width > MOST_PIXELS / (scaled_height > height ? scaled_height : height))
        return "the image is too elongated to scale: crop it";
    made->across = axis_of(how->filter, width, (int32_t)scaled_width);
    made->down = axis_of(how->filter, height, (int32_t)scaled_height);
    made->left = half_of((int32_t)scaled_width - how->width);
    made->top = half_of((int32_t)scaled_height - how->height);
    return NULL;
}

/* ---- scratch memory: 32-bit numbers, then bytes ---- */
typedef struct {
    int32_t *firsts, *counts, *weights; /* of the columns */
    int32_t *down;                      /* weights of a row */
    uint8_t *ring, *line;
} Scratch;

/* The bytes of a row of the ring. */
static int64_t blocks(int64_t row) { return (row + BLOCK - 1) / BLOCK * BLOCK; }

static Scratch scratch_at(void *memory, const Preprocessing *how, const Geometry *geometry, int32_t channels) {
    const int64_t columns = how->width, across = geometry->across.most, down = geometry->down.most;
    Scratch made;
    made.firsts = (int32_t *)(((uintptr_t)memory + 3) & ~(uintptr_t)3);
    made.counts = made.firsts + columns;
    made.weights = made.counts + columns;
    made.down = made.weights + columns * across;
    made.ring = (uint8_t *)(made.down + down);
    made.line = made.ring + down * blocks(columns * channels);
    return made;
}

static int64_t scratch_bytes(const Preprocessing *how, const Geometry *geometry, int32_t channels) {
    const int64_t columns = how->width, across = geometry->across.most, down = geometry->down.most;
    const int64_t numbers = columns * (2 + across) + down, line = (int64_t)geometry->across.from * channels;
    return 3 + 4 * numbers + down * blocks(columns * channels) + line;
}

const char *preprocess_scratch(const Preprocessing *how, int32_t width, int32_t height, int64_t *bytes) {
    Geometry geometry;
    const char *failure = geometry_of(how, width, height, &geometry);
    if (failure == NULL) *bytes = scratch_bytes(how, &geometry, how->gray ? 1 : 3);
    return failure;
}

/* ---- pixels ---- */
typedef struct {
    int32_t bytes, red, green, blue;
} Layout;
static const Layout layouts[] = {
    [RGB] = {3, 0, 1, 2}, [BGR] = {3, 2, 1, 0}, [RGBA] = {4, 0, 1, 2}, [BGRA] = {4, 2, 1, 0}, [GRAY] = {1, 0, 0, 0}};

/* A row of the source as one channel or as red, green, blue: itself where that is what it is, else in `line`. */
static const uint8_t *channels_of(const uint8_t *row, int32_t width, Format format, int32_t channels, uint8_t *line) {
    if (format == GRAY || (format == RGB && channels == 3)) return row;
    const Layout at = layouts[format];
    for (int32_t x = 0; x < width; x++, row += at.bytes) {
        const uint8_t red = row[at.red], green = row[at.green], blue = row[at.blue];
        if (channels == 1) line[x] = (uint8_t)((red * 19595u + green * 38470u + blue * 7471u + 0x8000u) >> 16);
        else line[3 * x] = red, line[3 * x + 1] = green, line[3 * x + 2] = blue;
    }
    return line;
}

static void scale_across(const uint8_t *line, int32_t channels, int32_t columns, int32_t most, const Scratch *scratch,
                         uint8_t *out) {
    for (int32_t x = 0; x < columns; x++) {
        const int32_t count = scratch->counts[x], *weights = scratch->weights + (int64_t)x * most;
        const uint8_t *pixel = line + (int64_t)scratch->firsts[x] * channels;
        if (channels == 1) {
            uint32_t sum = HALF;
            for (int32_t i = 0; i < count; i++) sum += (uint32_t)weights[i] * pixel[i];
            *out++ = byte_of(sum);
        } else {
            uint32_t red = HALF, green = red, blue = red;
            for (int32_t i = 0; i < count; i++, pixel += 3) {
                red += (uint32_t)weights[i] * pixel[0];
                green += (uint32_t)weights[i] * pixel[1];
                blue += (uint32_t)weights[i] * pixel[2];
            }
            *out++ = byte_of(red), *out++ = byte_of(green), *out++ = byte_of(blue);
        }
    }
}

/* A row of the image: sums over rows first, ..., first + count - 1, which lie in the ring at their number modulo `most`.
   All blocks are whole, so that compilers make vectors of them; of the last one only some values are the image's. */
static void scale_down(const Scratch *scratch, int64_t row, int32_t most, int32_t first, int32_t count, int32_t copies,
                       uint8_t *out) {
    for (int64_t begin = 0; begin < row; begin += BLOCK) {
        uint32_t sums[BLOCK];
        for (int32_t i = 0; i < BLOCK; i++) sums[i] = HALF;
        for (int32_t n = 0; n < count; n++) {
            const uint8_t *from = scratch->ring + (first + n) % most * blocks(row) + begin;
            const uint32_t weight = (uint32_t)scratch->down[n];
            for (int32_t i = 0; i < BLOCK; i++) sums[i] += weight * from[i];
        }
        for (int32_t i = 0; i < BLOCK && begin + i < row; i++)
            for (int32_t copy = 0; copy < copies; copy++) *out++ = byte_of(sums[i]);
    }
}

const char *preprocess(const Preprocessing *how, const uint8_t *pixels, int32_t width, int32_t height, int64_t stride,
                       Format format, void *memory, uint8_t *image) {
    if (pixels == NULL || memory == NULL || image == NULL)
        return "no pixels, no scratch memory or no room for the image: NULL";
    if ((uint32_t)format > GRAY) return "there is no such format of pixels";
    Geometry geometry;
    const char *failure = geometry_of(how, width, height, &geometry);
    if (failure != NULL) return failure;
    const int64_t bytes = (int64_t)width * layouts[format].bytes;
    if (stride < bytes && stride > -bytes) return "the stride is shorter than a row of pixels";
    const int64_t most = PTRDIFF_MAX / height;
    if (stride > most || stride < -most) return "the stride is too long: memory must hold all rows";

    const int32_t channels = how->gray || format == GRAY ? 1 : 3;
    Axis *across = &geometry.across, *down = &geometry.down;
    const Scratch scratch = scratch_at(memory, how, &geometry, channels);
    for (int32_t x = 0; x < how->width; x++) {
        int32_t *weights = scratch.weights + (int64_t)x * across->most;
        scratch.counts[x] = window(across, geometry.left + x, &scratch.firsts[x], weights);
    }
    const int64_t row = (int64_t)how->width * channels;
    int32_t next = 0; /* row of the source */
    for (int32_t y = 0; y < how->height; y++, image += 3 * (int64_t)how->width) {
        int32_t first;
        const int32_t count = window(down, geometry.top + y, &first, scratch.down);
        if (next < first) next = first;
        for (; next < first + count; next++) {
            const uint8_t *line = channels_of(pixels + next * stride, width, format, channels, scratch.line);
            scale_across(line, channels, how->width, across->most, &scratch, scratch.ring + next % down->most * blocks(row));
        }
        scale_down(&scratch, row, down->most, first, count, 3 / channels, image);
    }
    return NULL;
}
