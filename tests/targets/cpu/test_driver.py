"""driver.c as C programs meet it: threads, forks, neighbours, unloading, stacks; guard pages; the thread sanitizer."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.targets.cpu import TARGET, CpuOptions
from squeezeedge.targets.cpu.library import DRIVER, compile_options, write_sources
from squeezeedge.targets.cpu.lower import STACK_BYTES, CpuLowered
from tests.graphs import GraphBuilder, random_images
from tests.targets.cpu.conftest import available
from tests.targets.cpu.programs import HERE

LIBRARY, ARCHIVE = "librandom.so", "librandom.a"
NETWORK = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "squeezeedge.h"
#define NEED(condition) need(!!(condition), #condition)
static void need(int holds, const char *text) {
    if (holds) return;
    fprintf(stderr, "%s\n", text);
    _exit(1);
}
static uint8_t *image;
static int32_t expected[64];
static int answers(void) {
    int32_t sums[64];
    return squeezeedge_run(image, 1, sums) == 0 && memcmp(sums, expected, squeezeedge_classes * sizeof *sums) == 0;
}
static void begin(int32_t threads) {
    image = calloc((size_t)squeezeedge_input[0] * squeezeedge_input[1], 3);
    for (int i = 0; i < 60; i++) image[i] = i * 71;
    NEED(squeezeedge_classes <= 64 && squeezeedge_open(threads, NULL) == 0 && squeezeedge_run(image, 1, expected) == 0);
}
"""


def passes(source: str, library: Path, folder: Path, *arguments: str | Path) -> None:
    """A C program ends with 0 within ten seconds."""
    program = HERE.build(f"{NETWORK}{source}", folder, [f"-I{library}", *arguments, "-pthread", "-lm"])
    done = HERE.run(program)
    assert done.returncode == 0, done.stderr.decode()


REOPEN = r"""
int main(void) {
    begin(2);
    for (int32_t i = 0; i < 20; i++) {
        NEED(squeezeedge_open(1 + 3 * i % 4, NULL) == 0 && answers());
        NEED(squeezeedge_open(65, NULL) != 0 && squeezeedge_open(0, NULL) != 0 && answers()); /* refused */
        if (i % 3 == 0) squeezeedge_close();
    }
    return 0;
}
"""


def test_opening_again_with_other_numbers_of_threads(library: Path, tmp_path: Path) -> None:
    passes(REOPEN, library, tmp_path, library / ARCHIVE)


FORK = r"""
static volatile int done;
static void *runs(void *nothing) {
    while (!done) NEED(answers());
    return nothing;
}
int main(void) {
    pthread_t other;
    begin(3);
    NEED(pthread_create(&other, NULL, runs, NULL) == 0);
    for (int i = 0; i < 20; i++) { /* also while the other thread runs the network */
        pid_t child = fork();
        if (child == 0) {
            alarm(8); /* one that hangs ends */
            NEED(answers() && answers());
            if (i % 3 == 0) NEED(squeezeedge_open(2, NULL) == 0 && answers());
            if (i % 3 == 1) {
                pid_t grandchild = fork();
                if (grandchild == 0) { alarm(8); NEED(answers()); exit(0); }
                int status = 1;
                NEED(waitpid(grandchild, &status, 0) == grandchild && status == 0);
                squeezeedge_close();
                NEED(squeezeedge_run(image, 1, expected) == SQUEEZEEDGE_NOT_OPEN);
            }
            exit(0);
        }
        int status = 1;
        NEED(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    }
    done = 1;
    NEED(pthread_join(other, NULL) == 0 && answers());
    return 0;
}
"""


def test_a_forked_child_runs_the_network(library: Path, tmp_path: Path) -> None:
    passes(FORK, library, tmp_path, library / ARCHIVE)


SIGNALS = r"""
#include <signal.h>
int main(void) {
    sigset_t term, found;
    struct timespec limit = {5, 0};
    begin(3); /* before the program blocks what it waits for */
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    NEED(pthread_sigmask(SIG_BLOCK, NULL, &found) == 0 && !sigismember(&found, SIGTERM));
    NEED(pthread_sigmask(SIG_BLOCK, &term, NULL) == 0 && kill(getpid(), SIGTERM) == 0);
    NEED(answers() && sigtimedwait(&term, NULL, &limit) == SIGTERM && answers());
    return 0;
}
"""


def test_workers_take_no_signals_of_the_program(library: Path, tmp_path: Path) -> None:
    passes(SIGNALS, library, tmp_path, library / ARCHIVE)


ERRORS = r"""
static void *fails(void *nothing) {
    NEED(squeezeedge_run(NULL, 1, expected) == SQUEEZEEDGE_BAD_ARGUMENT && strstr(squeezeedge_error(), "NULL"));
    return nothing;
}
int main(void) {
    pthread_t other;
    int32_t best;
    float logits[64] = {0};
    begin(1);
    NEED(squeezeedge_top(NULL, 1, &best, NULL) == SQUEEZEEDGE_BAD_ARGUMENT && strstr(squeezeedge_error(), "NULL"));
    NEED(pthread_create(&other, NULL, fails, NULL) == 0 && pthread_join(other, NULL) == 0);
    NEED(strstr(squeezeedge_error(), "no logits")); /* its own, not the other thread's */
    NEED(squeezeedge_top(logits, 1, &best, NULL) == 1 && squeezeedge_error()[0] == 0 && answers());
    NEED(squeezeedge_top(logits, 1, &best, logits) == SQUEEZEEDGE_BAD_ARGUMENT);
    NEED(strstr(squeezeedge_error(), "overwrite the logits"));
    NEED(squeezeedge_top(logits, 1, &best, logits + squeezeedge_classes - 1) == SQUEEZEEDGE_BAD_ARGUMENT);
    NEED(squeezeedge_top(logits, 1, &best, logits + squeezeedge_classes) == 1); /* behind them */
    NEED(squeezeedge_top(logits + 1, 1, &best, logits) == 1);
    return 0;
}
"""


def test_each_thread_has_its_error(library: Path, tmp_path: Path) -> None:
    passes(ERRORS, library, tmp_path, library / ARCHIVE)


UNLOAD = r"""
#include <dirent.h>
#include <dlfcn.h>
static int threads(void) {
    int count = -2; /* . and .. */
    DIR *folder = opendir("/proc/self/task");
    while (readdir(folder)) count++;
    closedir(folder);
    return count;
}
int main(void) {
    static uint8_t pixels[1 << 16];
    for (int i = 0; i < 100; i++) {
        void *library = dlopen(PATH, RTLD_NOW);
        NEED(library != NULL);
        typedef int32_t (*Open)(int32_t, const char *);
        typedef int32_t (*Run)(const uint8_t *, int32_t, int32_t *);
        typedef int32_t (*Threads)(void);
        Open open = (Open)dlsym(library, "random_open");
        Threads own = (Threads)dlsym(library, "random_threads");
        Run run = (Run)dlsym(library, "random_run");
        NEED(open(2, NULL) == 0 && run(pixels, 1, expected) == 0 && threads() == own());
        NEED(dlclose(library) == 0 && dlopen(PATH, RTLD_NOW | RTLD_NOLOAD) == NULL && threads() == 1);
    }
    int status = 1;
    pid_t child = fork(); /* which calls nothing that is gone */
    if (child == 0) _exit(0);
    NEED(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    return 0;
}
"""


def test_unloading_stops_the_threads(library: Path, tmp_path: Path) -> None:
    path = f'-DPATH="{library / LIBRARY}"'  # what is loaded is another copy than what is linked
    passes(UNLOAD, library, tmp_path, path, "-Wno-unused-function", library / ARCHIVE)


NEIGHBOUR = "void *__TVMBackendParallelLaunch, *__TVMBackendAllocWorkspace = &__TVMBackendParallelLaunch, " + (
    "*__TVMBackendFreeWorkspace = &__TVMBackendAllocWorkspace;"
)
BESIDE = r"""
extern void *__TVMBackendParallelLaunch, *__TVMBackendAllocWorkspace, *__TVMBackendFreeWorkspace;
int main(void) {
    begin(2);
    NEED(answers() && __TVMBackendParallelLaunch == NULL);
    NEED(__TVMBackendAllocWorkspace == &__TVMBackendParallelLaunch);
    NEED(__TVMBackendFreeWorkspace == &__TVMBackendAllocWorkspace);
    return 0;
}
"""


@pytest.mark.parametrize("ending", [LIBRARY, ARCHIVE])
def test_a_neighbour_that_tvm_exported_keeps_its_pointers(library: Path, tmp_path: Path, ending: str) -> None:
    """It is in the global scope, before the network, and its variables have the names of the kernels' own."""
    (tmp_path / "neighbour.c").write_text(NEIGHBOUR)
    beside = tmp_path / "libneighbour.so"
    subprocess.run(["cc", "-shared", "-fPIC", tmp_path / "neighbour.c", "-o", beside], check=True)
    rpath = [f"-Wl,-rpath,{tmp_path}", f"-Wl,-rpath,{library}"]
    passes(BESIDE, library, tmp_path, beside, library / ending, *rpath)


STACK = r"""
enum { SIZE = 1 << 20 };
static _Alignas(4096) uint8_t stack[SIZE];
static void *runs(void *nothing) {
    NEED(answers());
    return nothing;
}
int main(void) {
    begin(1);
    pthread_attr_t how;
    pthread_t caller;
    memset(stack, 0xA5, SIZE);
    NEED(pthread_attr_init(&how) == 0 && pthread_attr_setstack(&how, stack, SIZE) == 0);
    NEED(pthread_create(&caller, &how, runs, NULL) == 0 && pthread_join(caller, NULL) == 0);
    int untouched = 0;
    while (stack[untouched] == 0xA5) untouched++;
    fprintf(stderr, "%d bytes\n", SIZE - untouched);
    NEED(SIZE - untouched <= MOST);
    return 0;
}
"""


@pytest.mark.slow
def test_the_stack_does_not_grow_with_the_image(tmp_path: Path) -> None:
    """Of a convolution and its pooling, 1024 pixels wide: a ring of its rows has 192 KiB."""
    builder = GraphBuilder(np.random.default_rng(0), (5, 1024))
    pooled = builder.pool(builder.conv(IMAGE, 64), (3, 3), (2, 2))
    said = TARGET.lower(builder.finish(pooled, 5, graph_name="wide"), CpuOptions()).write(tmp_path)
    assert said["stack_bytes"] == STACK_BYTES
    assert f"at most {STACK_BYTES >> 10} KiB of the calling thread's stack" in (tmp_path / "squeezeedge.h").read_text()
    passes(STACK, tmp_path, tmp_path, f"-DMOST={STACK_BYTES}", tmp_path / "libwide.a")


REFUSED = r"""
#include <errno.h>
#include <stdarg.h>
long syscall(long number, ...) { /* an older Linux, which gives nobody the tiles */
    errno = EINVAL;
    return -(number != 0);
}
int main(void) {
    begin(1);
    NEED(strcmp(squeezeedge_isa(), "generic") == 0);
    NEED(squeezeedge_open(1, "amx") == SQUEEZEEDGE_UNSUPPORTED_PROCESSOR && strstr(squeezeedge_error(), "refuses"));
    NEED(answers()); /* as before */
    return 0;
}
"""


@pytest.mark.slow
def test_where_linux_refuses_the_tiles_the_next_ones_run(two_layers: IntegerGraph, tmp_path: Path) -> None:
    available("amx")
    TARGET.lower(two_layers, CpuOptions(isa="amx,generic")).write(tmp_path)
    passes(REFUSED, tmp_path, tmp_path, tmp_path / ARCHIVE)


SHARED = ("-shared", "-Wl,-Bsymbolic")


def build(lowered: CpuLowered, folder: Path, *arguments: str, out: str = "program") -> Path:
    """A program that includes the driver, or a library that is built with other options."""
    objects = write_sources(lowered.variants, lowered.interface, folder)
    rest = [name for name in DRIVER if name != "driver.c"]
    command = ["cc", "-O1", "-g", *compile_options(), *arguments, *rest, *objects, "-lm", "-o", out]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / out


@pytest.mark.slow
def test_nothing_outside_of_a_buffer_is_touched(isa: str, kinds: IntegerGraph, tmp_path: Path) -> None:
    """Each between pages of which any byte is a fault; inputs, weights and the image are read only."""
    shutil.copy(Path(__file__).parent / "driver_guard.c", tmp_path)
    program = build(TARGET.lower(kinds, CpuOptions(isa=isa)), tmp_path, "driver_guard.c", "-DPROCESSORS=3")
    images = random_images(kinds, 3, 0)
    for end in ("low", "high"):
        done = HERE.run(program, "3", end, data=images.tobytes())
        assert done.returncode == 0, done
        np.testing.assert_array_equal(np.frombuffer(done.stdout, np.int32).reshape(3, -1), run(kinds, images))


CALLERS = r"""
enum { COUNT = 5 };
int32_t second_open(int32_t threads, const char *isa);
int32_t second_run(const uint8_t *images, int32_t count, int32_t *sums);
void second_close(void);
static uint8_t *images;
static int32_t wanted[COUNT * 64];
static int changes;
static int all_right(int32_t (*run)(const uint8_t *, int32_t, int32_t *)) {
    int32_t sums[COUNT * 64];
    return run(images, COUNT, sums) == 0 && memcmp(sums, wanted, COUNT * squeezeedge_classes * sizeof *sums) == 0;
}
static void *calls(void *number) {
    for (int i = 0; i < 40; i++) {
        float logits[64];
        int32_t best[3];
        int closed = changes && !answers();
        if (closed) NEED(strcmp(squeezeedge_error(), "the network is not open") == 0);
        if (changes && (intptr_t)number == 0) {
            if (i % 4 == 3) squeezeedge_close();
            else NEED(squeezeedge_open(1 + i % 3, NULL) == 0);
        }
        if (!changes) {
            NEED(answers() && squeezeedge_logits(image, 1, logits) == 0);
            NEED(squeezeedge_top(logits, 3, best, NULL) == 3 && all_right(squeezeedge_run));
        }
        NEED(all_right(second_run)); /* which another network's opening and closing does not concern */
        NEED(squeezeedge_run(NULL, 1, best) == SQUEEZEEDGE_BAD_ARGUMENT && strstr(squeezeedge_error(), "NULL"));
    }
    return NULL;
}
int main(void) {
    pthread_t callers[16];
    begin(3);
    const size_t bytes = (size_t)squeezeedge_input[0] * squeezeedge_input[1] * 3;
    images = malloc(COUNT * bytes);
    for (size_t i = 0; i < COUNT * bytes; i++) images[i] = i * i * 13;
    for (int i = 0; i < COUNT; i++)
        NEED(squeezeedge_run(images + i * bytes, 1, wanted + i * squeezeedge_classes) == 0);
    NEED(second_open(2, NULL) == 0 && squeezeedge_threads() == 3);
    for (changes = 0; changes < 2; changes++) { /* then one of them opens and closes a network all the time */
        for (intptr_t i = 0; i < 16; i++) NEED(pthread_create(&callers[i], NULL, calls, (void *)i) == 0);
        for (int i = 0; i < 16; i++) NEED(pthread_join(callers[i], NULL) == 0);
    }
    squeezeedge_close();
    second_close();
    free(images);
    return 0;
}
"""


@pytest.mark.slow
@pytest.mark.tool
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_sixteen_callers_under_a_sanitizer(sanitizer: str, lowered: CpuLowered, tmp_path: Path) -> None:
    """Of two networks, one image or several at a time."""
    option = f"-fsanitize={sanitizer}"
    probe = ["cc", option, "-x", "c", "-", "-o", str(tmp_path / "probe")]
    made = subprocess.run(probe, input=b"int main(void) { return 0; }", capture_output=True, check=False)
    if made.returncode or subprocess.run([tmp_path / "probe"], capture_output=True, check=False).returncode:
        pytest.skip(f"the compiler has no sanitizer for {sanitizer} that runs here")
    several = replace(lowered, variants=[replace(v, work=[100] * len(v.work)) for v in lowered.variants])
    build(several, tmp_path, option, "-DPROCESSORS=3", *SHARED, "driver.c", out="libfirst.so")
    (tmp_path / "second").mkdir()
    second = replace(several, interface=replace(lowered.interface, prefix="second"))
    build(second, tmp_path / "second", option, "-DPROCESSORS=3", *SHARED, "driver.c", out="libsecond.so")
    (tmp_path / "callers.c").write_text(f"{NETWORK}{CALLERS}")
    files = ["callers.c", f"{tmp_path}/libfirst.so", f"{tmp_path}/second/libsecond.so"]
    subprocess.run(["cc", "-g", "-pthread", option, *files, "-o", "callers"], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "callers"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
