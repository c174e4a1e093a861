/* A group of threads that share the tasks of a call, the calling thread included. */
#pragma once
#include <stdint.h>

enum { MAX_THREADS = 64 };

/* Does task `index` of `tasks`; returns 0 unless it fails. */
typedef int (*Task)(int32_t index, int32_t tasks, void *data);

/* Processors that this process may use; MAX_THREADS where the system does not say. */
int32_t processors(void);

/* Start as many as make `threads` with the caller; none that were started before are running. 0, or -1: the system
   gives no further ones, and none runs. */
int start_workers(int32_t threads);

/* How many there are, the caller included; 0: they are to be started. */
int32_t running_threads(void);

void stop_workers(void);

/* In a forked child, where there are none. */
void forget_workers(void);

/* Do all tasks, and return when all are done; one call at a time. A worker that comes late has nothing to do and delays
   nobody. Returns 0 unless a task failed. */
int share_tasks(int32_t tasks, Task task, void *data);
