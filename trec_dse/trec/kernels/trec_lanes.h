/* Vectors of floats, a small matrix product and exp: what the training kernels are made of. */
#ifndef TREC_LANES_H
#define TREC_LANES_H

#include <stdint.h>

#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 8 };
#elif defined(__AVX__)
enum { LANES = 8, ROWS = 4 };
#elif defined(__aarch64__)
enum { LANES = 4, ROWS = 8 };
#else
enum { LANES = 4, ROWS = 4 };
#endif

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t whole_lanes __attribute__((vector_size(4 * LANES)));
typedef float loose_lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

typedef float four __attribute__((vector_size(16), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE lanes load(const float *p)
{
    return *(const loose_lanes *)p;
}

INLINE void store(float *p, lanes value)
{
    *(loose_lanes *)p = value;
}

INLINE lanes all(float value)
{
    return value - (lanes){0};
}

static inline int32_t round_up(int32_t n)
{
    return (n + LANES - 1) / LANES * LANES;
}

INLINE float sum_of_lanes(lanes v)
{
    float parts[LANES];
    store(parts, v);
    four sum = *(const four *)parts;
    for (int i = 4; i < LANES; i += 4) {
        sum += *(const four *)(parts + i);
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

INLINE float largest_of_lanes(lanes v)
{
    float parts[LANES];
    store(parts, v);
    float largest = parts[0];
    for (int i = 1; i < LANES; i++) {
        largest = parts[i] > largest ? parts[i] : largest;
    }
    return largest;
}

/* 0, 1, 2, ... */
INLINE whole_lanes counting(void)
{
    whole_lanes n;
    for (int i = 0; i < LANES; i++) {
        n[i] = i;
    }
    return n;
}

INLINE lanes at_least_zero(lanes v)
{
    return (lanes)((whole_lanes)v & (v > (lanes){0}));
}

/* The transpose: to[c * to_row + r] = from[r * from_row + c], four values at a time. */
static inline void flip(int32_t n_rows, int32_t n_columns, const float *from, int64_t from_row, float *to,
                        int64_t to_row)
{
    enum { BLOCK = 32 };
    for (int32_t start = 0; start < n_columns; start += BLOCK) {
        const int32_t stop = start + BLOCK < n_columns ? start + BLOCK : n_columns;
        int32_t r = 0;
        for (; r + 4 <= n_rows; r += 4) {
            const float *a = from + r * from_row;
            const float *c = a + 2 * from_row;
            for (int32_t k = start; k < stop; k++) {
                *(four *)(to + k * to_row + r) = (four){a[k], a[k + from_row], c[k], c[k + from_row]};
            }
        }
        for (; r < n_rows; r++) {
            for (int32_t k = start; k < stop; k++) {
                to[k * to_row + r] = from[r * from_row + k];
            }
        }
    }
}

/* exp(x) for x <= 0 to about 1e-7 of itself; 0 where a float cannot hold it. */
static inline lanes exp_lanes(lanes x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number */
    const whole_lanes is_normal = x > all(-87.0f);
    x = (lanes)((whole_lanes)x & is_normal);
    const lanes shifted = x * 1.44269504f + magic;
    const lanes n = shifted - magic;
    const lanes r = x - n * 0.693359375f + n * 2.12194440e-4f; /* ln 2 in two parts */
    lanes y = r * (1.0f / 5040) + 1.0f / 720; /* |r| <= ln 2 / 2: the next term is below 1e-8 */
    y = y * r + 1.0f / 120;
    y = y * r + 1.0f / 24;
    y = y * r + 1.0f / 6;
    y = y * r + 0.5f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    const whole_lanes power = (__builtin_convertvector(n, whole_lanes) + 127) << 23;
    return (lanes)((whole_lanes)(y * (lanes)power) & is_normal);
}

/* A matrix that is read element by element: element (i, k) lies at first[i * row + k * column]. */
typedef struct {
    const float *first;
    int64_t row, column;
} reader;

/* n_rows x n_vectors of the product stay in registers; both are constants after inlining. */
INLINE void multiply_tile(int n_rows, int n_vectors, int32_t depth, reader a, const float *b, int64_t ldb, float *c,
                          int64_t ldc, int adds)
{
    lanes acc[ROWS][2];
#pragma GCC unroll 8
    for (int i = 0; i < n_rows; i++) {
#pragma GCC unroll 2
        for (int j = 0; j < n_vectors; j++) {
            acc[i][j] = adds ? load(c + i * ldc + j * LANES) : (lanes){0};
        }
    }
    for (int32_t k = 0; k < depth; k++) {
        lanes b_row[2];
#pragma GCC unroll 2
        for (int j = 0; j < n_vectors; j++) {
            b_row[j] = load(b + k * ldb + j * LANES);
        }
#pragma GCC unroll 8
        for (int i = 0; i < n_rows; i++) {
            const lanes value = all(a.first[i * a.row + k * a.column]);
#pragma GCC unroll 2
            for (int j = 0; j < n_vectors; j++) {
                acc[i][j] += value * b_row[j];
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < n_rows; i++) {
#pragma GCC unroll 2
        for (int j = 0; j < n_vectors; j++) {
            store(c + i * ldc + j * LANES, acc[i][j]);
        }
    }
}

INLINE void multiply_columns(int n_vectors, int32_t n_rows, int32_t depth, reader a, const float *b, int64_t ldb,
                             float *c, int64_t ldc, int adds)
{
    int32_t i = 0;
    for (; i + ROWS <= n_rows; i += ROWS) {
        const reader part = {a.first + i * a.row, a.row, a.column};
        multiply_tile(ROWS, n_vectors, depth, part, b, ldb, c + i * ldc, ldc, adds);
    }
    for (; i + 2 <= n_rows; i += 2) {
        const reader part = {a.first + i * a.row, a.row, a.column};
        multiply_tile(2, n_vectors, depth, part, b, ldb, c + i * ldc, ldc, adds);
    }
    for (; i < n_rows; i++) {
        const reader part = {a.first + i * a.row, a.row, a.column};
        multiply_tile(1, n_vectors, depth, part, b, ldb, c + i * ldc, ldc, adds);
    }
}

/* c (n_rows, n_columns) = a (n_rows, depth) times b (depth, n_columns), or += where `adds`.
 * n_columns is a multiple of LANES; rows of b and c are contiguous, ldb and ldc floats apart. */
static void multiply(int32_t n_rows, int32_t n_columns, int32_t depth, reader a, const float *b, int64_t ldb, float *c,
                     int64_t ldc, int adds)
{
    int32_t j = 0;
    for (; j + 2 * LANES <= n_columns; j += 2 * LANES) {
        multiply_columns(2, n_rows, depth, a, b + j, ldb, c + j, ldc, adds);
    }
    if (j < n_columns) {
        multiply_columns(1, n_rows, depth, a, b + j, ldb, c + j, ldc, adds);
    }
}

#endif
