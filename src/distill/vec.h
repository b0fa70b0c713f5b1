/* vec.h - vectors of VL floats for the *_simd.c files: one set of functions, three implementations.
 *
 * vf: floats, vi: int32, vm: one truth value per lane. + - * / work on vf. NaN goes through v_exp and
 * v_log, so that a bad logit reaches the loss. Included by *_simd.c only, never by a header. */
#ifndef RETORT_DISTILL_VEC_H
#define RETORT_DISTILL_VEC_H
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__AVX512F__)
#include <immintrin.h>
enum { VL = 16 };
typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;
static inline vm vm_first(int n) { return (vm)((1u << n) - 1); }
static inline vf v_set(float a) { return _mm512_set1_ps(a); }
static inline vf v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
static inline vf v_load_part(const float *p, int n) { return _mm512_maskz_loadu_ps(vm_first(n), p); }
static inline void v_store_part(float *p, vf a, int n) { _mm512_mask_storeu_ps(p, vm_first(n), a); }
static inline vi vi_set(int32_t a) { return _mm512_set1_epi32(a); }
static inline vi vi_load(const int32_t *p) { return _mm512_loadu_si512(p); }
static inline vi vi_load_part(const int32_t *p, int n, int32_t fill) {
    return _mm512_mask_loadu_epi32(vi_set(fill), vm_first(n), p);
}
static inline vi vi_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
static inline vm vi_eq(vi a, vi b) { return _mm512_cmpeq_epi32_mask(a, b); }
static inline vm vi_below(vi a, vi b) { return _mm512_cmplt_epu32_mask(a, b); }   /* unsigned */
static inline bool vm_any(vm m) { return m != 0; }
static inline int vm_count(vm m) { return __builtin_popcount(m); }
static inline vm vm_and(vm a, vm b) { return a & b; }
static inline vm v_not_above(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_NGT_UQ); }
static inline vm v_nonzero(vf a) { return _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NEQ_UQ); }
static inline vf v_sel(vm m, vf a, vf b) { return _mm512_mask_blend_ps(m, b, a); }
static inline vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }                /* b when either is NaN */
static inline float v_sum(vf a) { return _mm512_reduce_add_ps(a); }
static inline vf v_lookup(const float *table, vi i) {
    return _mm512_permutexvar_ps(i, _mm512_loadu_ps(table));
}
static inline vf v_pow2_bits(vf t) {
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_slli_epi32(_mm512_castps_si512(t), 23), vi_set(0x3f800000)));
}
static inline vf v_split(vf x, vf *e) {
    vi bits = _mm512_castps_si512(x);
    vi n = _mm512_srai_epi32(vi_sub(bits, vi_set(0x3f3504f3)), 23);
    *e = _mm512_cvtepi32_ps(n);
    return _mm512_castsi512_ps(vi_sub(bits, _mm512_slli_epi32(n, 23)));
}

#elif defined(__AVX2__)
#include <immintrin.h>
enum { VL = 8 };
typedef __m256 vf;
typedef __m256i vi;
typedef __m256i vm;
static inline vi vi_set(int32_t a) { return _mm256_set1_epi32(a); }
static inline vm vm_first(int n) {
    return _mm256_cmpgt_epi32(vi_set(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vf v_set(float a) { return _mm256_set1_ps(a); }
static inline vf v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void v_store(float *p, vf a) { _mm256_storeu_ps(p, a); }
static inline vf v_load_part(const float *p, int n) { return _mm256_maskload_ps(p, vm_first(n)); }
static inline void v_store_part(float *p, vf a, int n) { _mm256_maskstore_ps(p, vm_first(n), a); }
static inline vi vi_load(const int32_t *p) { return _mm256_loadu_si256((const void *)p); }
static inline vi vi_load_part(const int32_t *p, int n, int32_t fill) {
    vm m = vm_first(n);
    return _mm256_blendv_epi8(vi_set(fill), _mm256_maskload_epi32(p, m), m);
}
static inline vi vi_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
static inline vm vi_eq(vi a, vi b) { return _mm256_cmpeq_epi32(a, b); }
static inline vm vi_below(vi a, vi b) {                                           /* unsigned */
    vi top = vi_set(INT32_MIN);
    return _mm256_cmpgt_epi32(_mm256_xor_si256(b, top), _mm256_xor_si256(a, top));
}
static inline bool vm_any(vm m) { return !_mm256_testz_si256(m, m); }
static inline int vm_count(vm m) {
    return __builtin_popcount((unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(m)));
}
static inline vm vm_and(vm a, vm b) { return _mm256_and_si256(a, b); }
static inline vm v_not_above(vf a, vf b) {
    return _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_NGT_UQ));
}
static inline vm v_nonzero(vf a) {
    return _mm256_castps_si256(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NEQ_UQ));
}
static inline vf v_sel(vm m, vf a, vf b) { return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(m)); }
static inline vf v_max(vf a, vf b) { return _mm256_max_ps(a, b); }                /* b when either is NaN */
static inline float v_sum(vf a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline vf v_lookup(const float *table, vi i) {
    return _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), i);
}
static inline vf v_pow2_bits(vf t) {
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_slli_epi32(_mm256_castps_si256(t), 23), vi_set(0x3f800000)));
}
static inline vf v_split(vf x, vf *e) {
    vi bits = _mm256_castps_si256(x);
    vi n = _mm256_srai_epi32(vi_sub(bits, vi_set(0x3f3504f3)), 23);
    *e = _mm256_cvtepi32_ps(n);
    return _mm256_castsi256_ps(vi_sub(bits, _mm256_slli_epi32(n, 23)));
}

#else /* the compiler's own vectors: SSE2, NEON or scalars */
#include <string.h>
enum { VL = 4 };
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef uint32_t vu __attribute__((vector_size(16)));
typedef vi vm;
static inline vf v_set(float a) { return (vf){a, a, a, a}; }
static inline vf v_load(const float *p) { vf a; memcpy(&a, p, sizeof a); return a; }
static inline void v_store(float *p, vf a) { memcpy(p, &a, sizeof a); }
static inline vf v_load_part(const float *p, int n) {
    vf a = {0};
    for (int i = 0; i < n && i < VL; i++) a[i] = p[i];
    return a;
}
static inline void v_store_part(float *p, vf a, int n) {
    for (int i = 0; i < n && i < VL; i++) p[i] = a[i];
}
static inline vi vi_set(int32_t a) { return (vi){a, a, a, a}; }
static inline vi vi_load(const int32_t *p) { vi a; memcpy(&a, p, sizeof a); return a; }
static inline vi vi_load_part(const int32_t *p, int n, int32_t fill) {
    vi a = vi_set(fill);
    for (int i = 0; i < n && i < VL; i++) a[i] = p[i];
    return a;
}
static inline vi vi_sub(vi a, vi b) { return a - b; }
static inline vm vi_eq(vi a, vi b) { return a == b; }
static inline vm vi_below(vi a, vi b) { return (vm)((vu)a < (vu)b); }             /* unsigned */
static inline bool vm_any(vm m) { return (m[0] | m[1] | m[2] | m[3]) != 0; }
static inline int vm_count(vm m) { return -(m[0] + m[1] + m[2] + m[3]); }
static inline vm vm_and(vm a, vm b) { return a & b; }
static inline vm v_not_above(vf a, vf b) { return ~(vm)(a > b); }
static inline vm v_nonzero(vf a) { return (vm)(a != v_set(0)); }
static inline vf v_sel(vm m, vf a, vf b) { return (vf)((m & (vi)a) | (~m & (vi)b)); }
static inline vf v_max(vf a, vf b) { return v_sel((vm)(a > b), a, b); }           /* b when either is NaN */
static inline float v_sum(vf a) { return (a[0] + a[2]) + (a[1] + a[3]); }
static inline vf v_lookup(const float *t, vi i) { return (vf){t[i[0]], t[i[1]], t[i[2]], t[i[3]]}; }
static inline vf v_pow2_bits(vf t) { return (vf)(((vu)t << 23) + (vu)vi_set(0x3f800000)); }
static inline vf v_split(vf x, vf *e) {
    vi n = ((vi)x - vi_set(0x3f3504f3)) >> 23;
    *e = (vf){(float)n[0], (float)n[1], (float)n[2], (float)n[3]};
    return (vf)((vi)((vu)x - ((vu)n << 23)));
}
#endif

/* e^r - 1 - r for |r| <= ln 2 / 2, with a small relative error however small r is. */
static inline vf v_exp_rest(vf r) {
    vf p = v_set(1.9875691500e-4f) * r + v_set(1.3981999507e-3f);
    p = p * r + v_set(8.3334519073e-3f);
    p = p * r + v_set(4.1665795894e-2f);
    p = p * r + v_set(1.6666665459e-1f);
    p = p * r + v_set(5.0000001201e-1f);
    return p * (r * r);
}
/* e^x = 2^n (1 + q) for x <= 1 or so: returns 2^n, 0 below -87.7.
 * x = n ln 2 + r, |r| <= ln 2 / 2; n is rounded by adding 1.5 * 2^23, whose low bits then hold it; the bits
 * of 2^-127 would be those of 0. */
static inline vf v_exp_split(vf x, vf *q) {
    x = v_max(v_set(-88.1f), x);
    vf t = x * v_set(1.44269504f) + v_set(12582912.0f), n = t - v_set(12582912.0f);
    vf r = x - n * v_set(0.693359375f);
    r = r + n * v_set(2.12194440e-4f);
    *q = v_exp_rest(r) + r;
    return v_pow2_bits(t);
}
/* e^x, relative error below 1.2e-7. */
static inline vf v_exp(vf x) {
    vf q, two_n = v_exp_split(x, &q);
    return (q + v_set(1.0f)) * two_n;
}
/* Natural logarithm of a positive normal number: x = m 2^e, m in [sqrt(1/2), sqrt(2)). */
static inline vf v_log(vf x) {
    vf e, f = v_split(x, &e) - v_set(1.0f), f2 = f * f;
    vf p = v_set(7.0376836292e-2f) * f + v_set(-1.1514610310e-1f);
    p = p * f + v_set(1.1676998740e-1f);
    p = p * f + v_set(-1.2420140846e-1f);
    p = p * f + v_set(1.4249322787e-1f);
    p = p * f + v_set(-1.6668057665e-1f);
    p = p * f + v_set(2.0000714765e-1f);
    p = p * f + v_set(-2.4999993993e-1f);
    p = p * f + v_set(3.3333331174e-1f);
    vf y = p * f * f2 + e * v_set(-2.12194440e-4f) - v_set(0.5f) * f2;
    return f + y + e * v_set(0.693359375f) + (x - x);    /* x - x: 0, or NaN for NaN */
}
/* log(big + small): what rounding their sum drops is added, so that log(1 + small) is not 0. */
static inline vf v_log_sum(vf big, vf small) {
    vf sum = big + small;
    return v_log(sum) + (small - (sum - big)) / sum;
}
#endif
