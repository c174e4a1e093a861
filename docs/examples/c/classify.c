/* classify FILE: the five best classes of a binary PPM (P6) of any size. */
#include <stdio.h>
#include <stdlib.h>

#include "squeezeedge.h"

enum { TOP = 5 };

static int fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    return 1;
}

/* The network's image, made of a PPM. Returns NULL, or what is wrong. */
static const char *read_image(FILE *file, uint8_t *image) {
    int width, height, most;
    if (fscanf(file, "P6 %d %d %d", &width, &height, &most) != 3 || most != 255 || fgetc(file) == EOF)
        return "not a binary PPM of 8 bits a channel";
    const int64_t room = squeezeedge_scratch(width, height);
    if (room < 0) return squeezeedge_error();
    const size_t row = 3 * (size_t)width;
    uint8_t *pixels = malloc(row * height), *scratch = malloc(room);
    const char *failure = NULL;
    if (pixels == NULL || scratch == NULL) failure = "out of memory";
    else if (fread(pixels, row, height, file) != (size_t)height) failure = "the file ends early";
    else if (squeezeedge_preprocess(pixels, width, height, row, SQUEEZEEDGE_RGB, scratch, image) != SQUEEZEEDGE_OK)
        failure = squeezeedge_error();
    free(pixels);
    free(scratch);
    return failure;
}

int main(int count, char **arguments) {
    if (count != 2) return fail("usage", "classify FILE");
    const char *path = arguments[1];
    if (squeezeedge_open(2, NULL) != SQUEEZEEDGE_OK) return fail("this machine", squeezeedge_error());

    uint8_t *image = malloc((size_t)squeezeedge_input[0] * squeezeedge_input[1] * squeezeedge_input[2]);
    float *logits = malloc(squeezeedge_classes * sizeof *logits);
    FILE *file = fopen(path, "rb");
    if (image == NULL || logits == NULL || file == NULL) return fail(path, "can't be opened");
    const char *failure = read_image(file, image);
    fclose(file);
    if (failure != NULL) return fail(path, failure);

    if (squeezeedge_logits(image, 1, logits) != SQUEEZEEDGE_OK) return fail(path, squeezeedge_error());
    int32_t classes[TOP];
    float probabilities[TOP];
    const int32_t found = squeezeedge_top(logits, TOP, classes, probabilities);
    for (int32_t i = 0; i < found; i++) {
        const char *label = squeezeedge_label(classes[i]);
        printf("%d %a %.9g %s\n", classes[i], logits[classes[i]], probabilities[i], label != NULL ? label : "");
    }
    squeezeedge_close();
    free(image);
    free(logits);
    return found < 0;
}
