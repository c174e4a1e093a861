/* classify FILE: the five best classes of a binary PPM (P6), or of a file with nothing but the pixels, RGB. */
#include <stdio.h>
#include <stdlib.h>

#include "squeezeedge.h"

enum { TOP = 5 };

static int fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    return 1;
}

/* Goes to the first pixel: behind a PPM's header, if there is one. 0 if the image has the network's size. */
static int find_pixels(FILE *file) {
    int width, height, most;
    if (fscanf(file, "P6 %d %d %d", &width, &height, &most) != 3) {
        rewind(file);
        return 0;
    }
    return fgetc(file) == EOF || most != 255 || height != squeezeedge_input[0] || width != squeezeedge_input[1];
}

int main(int count, char **arguments) {
    if (count != 2) return fail("usage", "classify FILE");
    const char *path = arguments[1];
    if (squeezeedge_open(2, NULL) != SQUEEZEEDGE_OK) return fail("this machine", squeezeedge_error());

    const size_t bytes = (size_t)squeezeedge_input[0] * squeezeedge_input[1] * squeezeedge_input[2];
    uint8_t *image = malloc(bytes);
    float *logits = malloc(squeezeedge_classes * sizeof *logits);
    FILE *file = fopen(path, "rb");
    if (image == NULL || logits == NULL || file == NULL) return fail(path, "can't be opened");
    if (find_pixels(file) || fread(image, 1, bytes, file) != bytes || fgetc(file) != EOF)
        return fail(path, "not an image of the network's size");
    fclose(file);

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
