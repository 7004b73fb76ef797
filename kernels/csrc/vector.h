/* Vectors of the level that this file is compiled for: VW floats, of which the first n may be real. */
#ifndef RZK_VECTOR_H
#define RZK_VECTOR_H

#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#if defined(__AVX512F__)
#define VW 16
#elif defined(__AVX2__)
#define VW 8
#else
#define VW 4
#endif
typedef float vf __attribute__((vector_size(VW * 4)));
typedef float vf_anywhere __attribute__((vector_size(VW * 4), aligned(4), may_alias));
#define INLINE static inline __attribute__((always_inline))
INLINE vf vf_load(const float *p) { return *(const vf_anywhere *)p; }
INLINE void vf_store(float *p, vf a) { *(vf_anywhere *)p = a; }
INLINE vf vf_set(float a) { return (vf){0} + a; }
/* max(a, 0), and NaN stays NaN. */
INLINE vf vf_relu(vf a) {
#if VW == 1
    return a < 0 ? 0 : a;
#else
    typedef int32_t vi __attribute__((vector_size(VW * 4)));
    return (vf)((vi)a & ~(vi)(a < (vf){0}));
#endif
}
#define RESTRICT __restrict__
#define PREFETCH(p) __builtin_prefetch(p)
#define PREFETCH_TO_WRITE(p) __builtin_prefetch(p, 1)
#else
#define VW 1
typedef float vf;
#define INLINE static __forceinline
INLINE vf vf_load(const float *p) { return *p; }
INLINE void vf_store(float *p, vf a) { *p = a; }
INLINE vf vf_set(float a) { return a; }
INLINE vf vf_relu(vf a) { return a < 0 ? 0 : a; }
#define RESTRICT __restrict
#define PREFETCH(p) ((void)0)
#define PREFETCH_TO_WRITE(p) ((void)0)
#endif

/* The last channels of a row, fewer than a vector holds. */
INLINE vf vf_load_part(const float *p, int64_t n) {
    float some[VW] = {0};
    memcpy(some, p, (size_t)n * sizeof(float));
    return vf_load(some);
}
INLINE void vf_store_part(float *p, vf a, int64_t n) {
    float some[VW];
    vf_store(some, a);
    memcpy(p, some, (size_t)n * sizeof(float));
}
INLINE vf vf_get(const float *p, int64_t n) { return n >= VW ? vf_load(p) : vf_load_part(p, n); }
INLINE void vf_put(float *p, vf a, int64_t n) {
    if (n >= VW)
        vf_store(p, a);
    else
        vf_store_part(p, a, n);
}

#endif
