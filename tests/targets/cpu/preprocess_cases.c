/* preprocess.c with the weights of its filters shown, and as a program. Standard input: images, each as 9 numbers of 32
   bits, in the order in which main() reads them, and its bytes; standard output: what they become. A format of -1 asks for
   the weights of scaling the width to the height. Each buffer has just the bytes that it needs, and the scratch memory an
   odd address. */
#include "preprocess.c"

#include <stdio.h>
#include <stdlib.h>

/* The weights of scaling `from` pixels to `to`: int32 [from][to], 0 before. */
void weights_of(int32_t filter, int32_t from, int32_t to, int32_t *weights);
void weights_of(int32_t filter, int32_t from, int32_t to, int32_t *weights) {
    Axis axis = axis_of((Filter)filter, from, to);
    int32_t *found = malloc((size_t)axis.most * sizeof *found), first;
    for (int32_t place = 0; place < to; place++) {
        const int32_t count = window(&axis, place, &first, found);
        for (int32_t i = 0; i < count; i++) weights[(int64_t)(first + i) * to + place] = found[i];
    }
    free(found);
}

int main(void) {
    int32_t header[9];
    while (fread(header, sizeof header, 1, stdin) == 1) {
        const Preprocessing how = {header[0], header[1], header[2], (Filter)header[3], header[4]};
        const int32_t width = header[5], height = header[6], format = header[7], stride = header[8];
        if (format == -1) {
            int32_t *weights = calloc((size_t)width * height, sizeof *weights);
            weights_of(how.filter, width, height, weights);
            fwrite(weights, sizeof *weights, (size_t)width * height, stdout);
            free(weights);
            continue;
        }
        const size_t before = (size_t)(height - 1) * (size_t)abs(stride);
        const size_t size = before + (size_t)width * layouts[format].bytes, made = (size_t)how.height * how.width * 3;
        int64_t bytes;
        if (preprocess_scratch(&how, width, height, &bytes) != NULL) return 2;
        uint8_t *pixels = malloc(size), *scratch = malloc((size_t)bytes + 1), *image = malloc(made);
        if (fread(pixels, 1, size, stdin) != size) return 3;
        const uint8_t *first = stride < 0 ? pixels + before : pixels;
        if (preprocess(&how, first, width, height, stride, (Format)format, scratch + 1, image) != NULL) return 4;
        fwrite(image, 1, made, stdout);
        free(pixels), free(scratch), free(image);
    }
    return 0;
}
