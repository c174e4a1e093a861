/* The oldest versions of what driver.c calls, linked by --wrap into the shared library: a current glibc has newer ones
   beside them, which boards lack. The archive takes those of the program's own glibc. */
#include <math.h>
#include <pthread.h>
#include <signal.h>

#if defined(__GLIBC__) && defined(__x86_64__)
#define OLD(name) __asm__(".symver old_" #name "," #name "@GLIBC_2.2.5")
#elif defined(__GLIBC__) && defined(__aarch64__)
#define OLD(name) __asm__(".symver old_" #name "," #name "@GLIBC_2.17")
#elif defined(__GLIBC__) && defined(__arm__)
#define OLD(name) __asm__(".symver old_" #name "," #name "@GLIBC_2.4")
#else /* the only ones */
#define OLD(name) __asm__(".set old_" #name ",__real_" #name)
#endif

OLD(exp);
double old_exp(double x);
double __wrap_exp(double x);
double __wrap_exp(double x) { return old_exp(x); }

OLD(pthread_create);
int old_pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*start)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*start)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*start)(void *), void *argument) {
    return old_pthread_create(thread, how, start, argument);
}

OLD(pthread_join);
int old_pthread_join(pthread_t thread, void **result);
int __wrap_pthread_join(pthread_t thread, void **result);
int __wrap_pthread_join(pthread_t thread, void **result) { return old_pthread_join(thread, result); }

OLD(pthread_mutex_trylock);
int old_pthread_mutex_trylock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_trylock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_trylock(pthread_mutex_t *mutex) { return old_pthread_mutex_trylock(mutex); }

OLD(pthread_sigmask);
int old_pthread_sigmask(int how, const sigset_t *set, sigset_t *before);
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *before);
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *before) {
    return old_pthread_sigmask(how, set, before);
}
