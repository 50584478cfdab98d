/* What the forward and the backward pass do alike: images in and out, vectors, centroids. */
#ifndef TREC_SHARED_H
#define TREC_SHARED_H

#include <stddef.h>

#include "trec_job.h"
#include "trec_lanes.h"

/* Hands out scratch; without a start it only counts. */
typedef struct {
    float *start;
    int64_t used;
} scratch_space;

/* The next n floats; every piece starts on a cache line if the scratch does. */
static inline float *take(scratch_space *s, int64_t n)
{
    float *piece = s->start == NULL ? NULL : s->start + s->used;
    s->used += (n + 15) / 16 * 16;
    return piece;
}

static inline void clear(float *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        p[i] = 0;
    }
}

static inline int32_t padded_width(const job *j)
{
    return j->in_w + 2 * j->pad_w;
}

/* A vector more than the image, for copies that end in the middle of one. */
static inline int64_t padded_floats(const job *j)
{
    return (int64_t)(j->in_h + 2 * j->pad_h) * padded_width(j) * j->in_c + LANES;
}

static inline float *padded_row(const job *j, float *padded, int32_t y)
{
    return padded + ((int64_t)(y + j->pad_h) * padded_width(j) + j->pad_w) * j->in_c;
}

/* Copies image n to padded, whose border is zero already. */
static inline void load_image(const job *j, int32_t n, float *padded)
{
    for (int32_t y = 0; y < j->in_h; y++) {
        const float *from = j->x.first + n * j->x.image + (int64_t)y * j->in_w * j->x.pixel;
        float *to = padded_row(j, padded, y);
        if (j->x.channel == 1) {
            __builtin_memcpy(to, from, sizeof(float) * (size_t)(j->in_w * j->in_c));
        } else {
            flip(j->in_c, j->in_w, from, j->x.channel, to, j->in_c);
        }
    }
}

/* The vectors of one group as rows (n_vectors, length_p). Behind length_p lies room for a vector of floats: what is
 * copied too far there and in the padding of a row is overwritten or never used. */
static inline void gather(const job *j, const float *padded, int32_t group, float *rows)
{
    const int32_t *runs = j->runs + 2 * group * j->n_runs;
    const int32_t length_p = round_up(j->length);
    for (int32_t t = 0; t < j->n_vectors; t++) {
        float *to = rows + (int64_t)t * length_p;
        for (int32_t r = 0; r < j->n_runs; r++) {
            const float *from = padded + j->bases[t] + runs[2 * r];
            for (int32_t i = 0; i < runs[2 * r + 1]; i += LANES) {
                store(to + i, load(from + i));
            }
            to += runs[2 * r + 1];
        }
    }
}

/* into (n floats, a multiple of LANES) += from */
INLINE void add_row(float *into, const float *from, int32_t n)
{
    for (int32_t i = 0; i < n; i += LANES) {
        store(into + i, load(into + i) + load(from + i));
    }
}

/* The means of the clusters (n_clusters, length_p), and 1 / size of each (n_clusters). */
static inline void average(const job *j, const float *rows, const uint16_t *clusters, int32_t n_clusters, float *means,
                           float *shares)
{
    const int32_t length_p = round_up(j->length);
    clear(means, (int64_t)n_clusters * length_p);
    clear(shares, n_clusters);
    for (int32_t t = 0; t < j->n_vectors; t++) {
        add_row(means + (int64_t)clusters[t] * length_p, rows + (int64_t)t * length_p, length_p);
        shares[clusters[t]] += 1;
    }
    for (int32_t c = 0; c < n_clusters; c++) {
        shares[c] = 1 / shares[c];
        for (int32_t i = 0; i < length_p; i++) {
            means[(int64_t)c * length_p + i] *= shares[c];
        }
    }
}

static inline reader by_rows(const float *first, int64_t row)
{
    return (reader){first, row, 1};
}

static inline reader by_columns(const float *first, int64_t row)
{
    return (reader){first, 1, row};
}

#endif
