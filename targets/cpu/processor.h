/* What a processor must have for an instruction set: one FEATURE for each of Linux's names in options.py. */
#pragma once
#include <stddef.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__) || defined(__arm__)
#include <sys/auxv.h>
#endif

/* Says what is missing; NULL where nothing is. */
typedef const char *(*Missing)(void);

/* missing_NAME: the processor has it where the condition holds; if not, the instruction set OTHER does without. */
#define LACK(title, other) "the processor has no " title "; compile for the instruction set " other
#define FEATURE(name, title, condition, other) \
    static __attribute__((unused)) const char *missing_##name(void) { return (condition) ? NULL : LACK(title, other); }

#if defined(__x86_64__)
enum { EAX, EBX, ECX, EDX };
static __attribute__((unused)) int cpuid(unsigned leaf, unsigned part, int where, int bit) {
    unsigned found[4];
    return __get_cpuid_count(leaf, part, &found[EAX], &found[EBX], &found[ECX], &found[EDX]) && found[where] >> bit & 1;
}
/* GCC's own test knows whether the system saves the registers, too. */
#define SUPPORTS(name) (__builtin_cpu_init(), __builtin_cpu_supports(name))

FEATURE(ssse3, "SSSE3", SUPPORTS("ssse3"), "generic")
FEATURE(avx2, "AVX2", SUPPORTS("avx2"), "ssse3")
FEATURE(avx512bw, "AVX-512BW", SUPPORTS("avx512bw"), "avx2")
FEATURE(avx512vl, "AVX-512VL", SUPPORTS("avx512vl"), "avx2")
FEATURE(avx512_vnni, "AVX-512 VNNI", SUPPORTS("avx512vnni"), "avx512bw")
FEATURE(avx_vnni, "AVX-VNNI", SUPPORTS("avx2") && cpuid(7, 1, EAX, 4), "avx2")
FEATURE(amx_tile, "AMX-TILE", cpuid(7, 0, EDX, 24), "avx512-vnni")
/* Of the tiles, Linux gives a process the use, which is asked for here, after everything else is found. */
static __attribute__((unused)) const char *missing_amx_int8(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    if (!cpuid(7, 0, EDX, 25)) return LACK("AMX-INT8", "avx512-vnni");
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0) return NULL;
    return "the kernel refuses AMX tiles (Linux 5.16 or newer is needed); compile for the instruction set avx512-vnni";
}
#elif defined(__aarch64__)
#define HWCAP(bit) (getauxval(AT_HWCAP) >> (bit) & 1)
FEATURE(i8mm, "matrix product", getauxval(AT_HWCAP2) >> 13 & 1, "neon-dotprod")
FEATURE(asimddp, "dot product", HWCAP(20), "neon")
#elif defined(__arm__)
#define HWCAP(bit) (getauxval(AT_HWCAP) >> (bit) & 1)
FEATURE(neon, "NEON", HWCAP(12), "generic")
#endif
