/* Runs a network's library on one image, so that the kernels' instructions are counted.

   PROGRAM THREADS: an emulator writes what it executes (benchmarks/executed.py), or the kernels have counters of their
   own (benchmarks/counters.py), which are then standard output: 64 bits each.
   PROGRAM clock: how many dependent additions a second this processor makes: one a cycle. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "squeezeedge.h"

#define JOIN(a, b) a##b
#define NAME(prefix, name) JOIN(prefix, name)
#define CALL(name) NAME(PREFIX, name)

/* In place of sched_getaffinity: the library starts as many threads as are asked for, whatever this machine has. */
int __wrap_sched_getaffinity(pid_t process, size_t size, cpu_set_t *set);
int __wrap_sched_getaffinity(pid_t process, size_t size, cpu_set_t *set) {
    (void)process;
    memset(set, 0xff, size);
    return 0;
}

static int run(int threads) {
    const int32_t *shape = CALL(_input);
    uint8_t *image = calloc((size_t)shape[0] * shape[1], shape[2]);
    int32_t *sums = calloc(CALL(_classes), sizeof *sums);
    int failed = image == NULL || sums == NULL || CALL(_open)(threads, NULL) != 0 || CALL(_run)(image, 1, sums) != 0;
    if (failed) fprintf(stderr, "%s\n", CALL(_error)());
#ifdef COUNTERS
    extern uint64_t CALL(_executed)[];
    if (!failed) fwrite(CALL(_executed), sizeof(uint64_t), COUNTERS, stdout);
#endif
    return failed;
}

#if defined(__x86_64__)
static void print_clock(void) {
    double best = 0;
    for (int i = 0; i < 400; i++) {
        struct timespec from, to;
        const uint64_t turns = 20000;
        uint64_t sum = 0;
        clock_gettime(CLOCK_MONOTONIC, &from);
        for (uint64_t turn = 0; turn < turns; turn++)
            __asm__ volatile(".rept 32\n add %1, %0\n .endr" : "+r"(sum) : "r"(turn));
        clock_gettime(CLOCK_MONOTONIC, &to);
        double rate = 32.0 * turns / ((double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec));
        if (rate > best) best = rate;
    }
    printf("%.0f\n", best);
}
#endif

int main(int count, char **arguments) {
    if (count != 2) return 2;
#if defined(__x86_64__)
    if (strcmp(arguments[1], "clock") == 0) {
        print_clock();
        return 0;
    }
#endif
    return run(atoi(arguments[1]));
}
